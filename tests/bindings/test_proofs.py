"""A probe that sees nothing is believed only once it has found an effect that is known to have happened."""

from __future__ import annotations

import imaplib
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

from orchestrator.bindings.proofs import LASTS, TRIES, ProbeState
from orchestrator.bootstrap import use
from orchestrator.kernel.resolution import open_effects, settle
from orchestrator.ledger.states import Cause, State
from orchestrator.plugins.standard import STANDARD
from orchestrator.record.verify import verify
from orchestrator.sandbox.mail_server import MailServer
from orchestrator.testing.faults import FaultProxy
from orchestrator.worker.proving import prove_once
from tests.support.clock import HandClock
from tests.support.console import Console
from tests.support.kernel_bench import ANN as OPERATOR
from tests.support.mail_account import ANN, END_OF_MAIL, SHOP, MailBench

UNTRIED, PROVEN, UNPROVEN = ProbeState.UNTRIED, ProbeState.PROVEN, ProbeState.UNPROVEN


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer({SHOP: "shop", ANN: "ann"}) as running:
        with imaplib.IMAP4("127.0.0.1", running.imap_port) as imap:
            imap.login(SHOP, "shop")
            imap.create("Archive")
        yield running


@pytest.fixture
def proxy(server: MailServer) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", server.smtp_port) as running:
        yield running


Open = Callable[..., MailBench]


@pytest.fixture
def reopen(server: MailServer, proxy: FaultProxy, tmp_path: Path, clock: HandClock) -> Iterator[Open]:
    """Open the same record with other settings, as after a restart."""
    opened: list[MailBench] = []

    def reopen(**settings: str) -> MailBench:
        opened.append(MailBench(tmp_path, server, proxy.port, clock, **settings))
        return opened[-1]

    yield reopen
    for each in opened:
        with each.app.record.store.read() as tx:
            assert not verify(tx).breaches
        each.app.record.store.close()


@pytest.fixture
def bench(reopen: Open) -> MailBench:
    return reopen()


@pytest.fixture
def console(bench: MailBench, capsys: pytest.CaptureFixture[str]) -> Iterator[Console]:
    use(bench.app)
    yield Console(capsys)
    use(None)


def state(bench: MailBench) -> ProbeState:
    return bench.app.proofs.states("support_mail")["mailer.send"]


def seen(console: Console) -> str:
    return str(console("check", "--json").json["connections"][0]["seen"])


def kinds(bench: MailBench) -> list[str]:
    with bench.app.record.store.read() as tx:
        return [event.kind for event in bench.app.record.trail.chain(tx, "connection:support_mail")]


def proven(bench: MailBench) -> MailBench:
    bench.pass_time()
    bench.send("first")
    bench.pass_time()
    assert state(bench) is PROVEN
    return bench


def test_nothing_is_known_of_a_new_connections_probe(bench: MailBench) -> None:
    assert bench.app.proofs.states("support_mail") == {"mailer.send": UNTRIED, "notifier.notify": UNTRIED}
    bench.pass_time()
    assert state(bench) is UNTRIED
    assert kinds(bench) == []


def test_a_probe_that_finds_a_confirmed_mail_is_proven_and_its_absences_count(
    bench: MailBench, proxy: FaultProxy
) -> None:
    proven(bench)
    assert kinds(bench) == ["connection.proven"]
    proxy.lose_request(at=END_OF_MAIL)
    bench.send("second")
    bench.pass_time()
    assert (sorted(bench.arrived()), bench.parked()) == (["first", "second"], set())


def test_a_mail_is_looked_for_only_when_it_must_be_visible(bench: MailBench, clock: HandClock) -> None:
    bench.pass_time()
    bench.send("first")
    clock.advance(seconds=29)
    bench.prove()
    assert state(bench) is UNTRIED
    clock.advance(seconds=1)
    bench.prove()
    assert state(bench) is PROVEN


@pytest.mark.parametrize("lost", ["lose_answer", "lose_request"])
def test_a_doubt_before_the_first_proof_is_settled_by_what_is_found_or_by_a_person(
    bench: MailBench, proxy: FaultProxy, lost: str
) -> None:
    if lost == "lose_answer":
        proxy.lose_answer(after=END_OF_MAIL)
    else:
        proxy.lose_request(at=END_OF_MAIL)
    bench.send("first")
    bench.pass_time()
    found = lost == "lose_answer"
    assert (bench.arrived(), bench.parked()) == ((["first"], set()) if found else ([], {"first"}))
    assert [each.state for each in open_effects(bench.app.record)] == ([] if found else [State.NEEDS_DECISION])


def test_a_probe_that_does_not_find_what_happened_is_unproven_after_a_few_looks(
    bench: MailBench, server: MailServer, clock: HandClock
) -> None:
    server.files_sent = False
    bench.pass_time()
    bench.send("first")
    for _ in range(TRIES):
        assert state(bench) is UNTRIED
        clock.advance(minutes=3)
        bench.prove()
    assert state(bench) is UNPROVEN
    assert kinds(bench) == ["connection.unproven"]


def test_an_unproven_probe_that_finds_a_later_mail_is_proven(bench: MailBench, server: MailServer) -> None:
    server.files_sent = False
    bench.pass_time()
    bench.send("first")
    bench.pass_time()
    assert state(bench) is UNPROVEN
    server.files_sent = True
    bench.let_a_proof_age()
    bench.send("second")
    bench.pass_time()
    assert state(bench) is PROVEN
    assert kinds(bench) == ["connection.unproven", "connection.proven"]


def test_a_provider_that_stops_filing_is_noticed_by_the_next_mail(bench: MailBench, server: MailServer) -> None:
    proven(bench)
    server.files_sent = False
    bench.let_a_proof_age()
    bench.send("second")
    bench.pass_time()
    assert state(bench) is UNPROVEN
    assert kinds(bench) == ["connection.proven", "connection.unproven"]


def test_a_doubt_soon_after_a_provider_stopped_filing_goes_to_a_person(
    bench: MailBench, server: MailServer, proxy: FaultProxy, clock: HandClock
) -> None:
    proven(bench)
    server.files_sent = False
    bench.send("second")
    clock.advance(minutes=1)
    proxy.lose_answer(after=END_OF_MAIL)
    bench.send("third")
    bench.pass_time()
    assert (sorted(bench.arrived()), bench.parked()) == (["first", "second", "third"], {"third"})


def test_other_settings_lose_the_belief(reopen: Open, proxy: FaultProxy) -> None:
    proven(reopen())
    moved = reopen(sent="Archive")
    assert state(moved) is UNTRIED
    proxy.lose_answer(after=END_OF_MAIL)
    moved.send("second")
    moved.pass_time()
    assert (sorted(moved.arrived()), moved.parked()) == (["first", "second"], {"second"})


def test_what_other_settings_sent_proves_nothing(reopen: Open) -> None:
    before = reopen(sent="Archive")
    before.pass_time()
    before.send("first")
    after = reopen()
    after.pass_time()
    assert state(after) is UNTRIED


def test_the_same_settings_keep_the_belief(reopen: Open) -> None:
    proven(reopen())
    assert state(reopen()) is PROVEN


def test_the_store_holds_no_secret_of_the_settings(bench: MailBench) -> None:
    proven(bench)
    with bench.app.record.store.read() as tx:
        (row, _) = tx.exec_driver_sql("SELECT settings FROM probe").scalars()
    assert row == bench.app.record.vault.fingerprint(b"probe", bench.section())
    assert "shop" not in row


def test_what_a_person_said_proves_nothing(bench: MailBench, proxy: FaultProxy) -> None:
    bench.pass_time()
    proxy.lose_request(at=END_OF_MAIL)
    bench.send("first")
    bench.pass_time()
    (waiting,) = open_effects(bench.app.record)
    settle(bench.app.record, STANDARD, waiting.effect_id, Cause.HAPPENED, OPERATOR)
    bench.pass_time()
    assert (state(bench), kinds(bench)) == (UNTRIED, [])


def test_a_probe_that_cannot_look_neither_proves_nor_loses_anything(bench: MailBench, server: MailServer) -> None:
    proven(bench)
    bench.let_a_proof_age()
    bench.send("second")
    server.change_password(SHOP, "another")
    prove_once(bench.app, Event())
    assert (state(bench), kinds(bench)) == (PROVEN, ["connection.proven"])


def test_a_mail_whose_private_values_are_gone_is_passed_over(bench: MailBench, clock: HandClock) -> None:
    bench.pass_time()
    bench.send("first")
    bench.send("second")
    bench.erase("second")
    clock.advance(minutes=3)
    bench.prove()
    assert state(bench) is PROVEN


def test_a_proof_is_not_renewed_before_it_is_old(bench: MailBench, server: MailServer, clock: HandClock) -> None:
    proven(bench)
    bench.send("second")
    server.files_sent = False
    clock.now += LASTS / 2
    bench.prove()
    assert state(bench) is PROVEN


def test_people_see_whose_doubts_are_theirs_and_why(bench: MailBench, server: MailServer, console: Console) -> None:
    server.files_sent = False
    bench.tell()
    bench.pass_time()
    bench.send("first")
    assert "mailer.send untried" in console("connections", "--json").json[0]["probes"]
    assert "it is not known yet whether the probe of mailer.send finds what was done" in seen(console)
    bench.pass_time()
    assert console("connections", "--json").json[0]["probes"] == ["mailer.send unproven", "notifier.notify untried"]
    assert "the probe of mailer.send does not find what was done" in seen(console)
    bench.tell()
    assert bench.arrived() == ["first", "[warning] Connections: support_mail"]


def test_a_proven_probe_is_no_word_of_the_check(bench: MailBench, console: Console) -> None:
    proven(bench)
    assert "mailer.send" not in seen(console)
    assert "mailer.send proven" in console("connections", "--json").json[0]["probes"]
