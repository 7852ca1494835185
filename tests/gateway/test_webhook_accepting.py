from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from orchestrator.builtin.inbox import DeliveryState, HostInbox
from orchestrator.gateway.accepting import Acceptance, Accepted, Arrival, Outcome
from orchestrator.gateway.verification import Proof
from orchestrator.gateway.writer import Writer
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.runs import Runs, RunState
from orchestrator.record.record import Record
from orchestrator.record.tables import audit_event, inbox, run
from orchestrator.record.trail import Actor
from orchestrator.record.verify import verify
from tests.support.clock import HandClock
from tests.support.deep import cases
from tests.support.kernel_bench import Killed, fails, watched
from tests.support.webhooks import SERVE, Order, arrival, hook, order


def accept(record: Record, *arrivals: Arrival) -> list[Accepted]:
    return Acceptance(record, Runs(record)).accept(arrivals)


def counts(record: Record) -> tuple[int, int]:
    """Return how many deliveries and runs there are."""
    with record.store.read() as tx:
        rows = [tx.execute(select(func.count()).select_from(table)).scalar_one() for table in (inbox, run)]
    return rows[0], rows[1]


def test_a_delivery_is_stored_with_its_run_and_its_event(record: Record) -> None:
    (accepted,) = accept(record, arrival(order(1, items=[{"name": "Book"}])))
    assert accepted.outcome is Outcome.ACCEPTED
    (found,) = HostInbox(record).listed(limit=9)
    assert (found.delivery, found.source, found.state, found.note) == (accepted.delivery, "webhook:shop", "started", "")
    (opened,) = Runs(record).listed(limit=9)
    assert (opened.run_id, opened.process, opened.state) == (found.run_id, "serve", RunState.READY)
    raw, row = HostInbox(record).raw(found.delivery)
    assert (raw, row.subject_ref) == (order(1, items=[{"name": "Book"}]), opened.subject_ref)
    with record.store.read() as tx:
        events = record.trail.chain(tx, opened.run_id)
        private = record.trail.private_values(tx, [event.event_id for event in events])
        assert verify(tx).breaches == ()
    assert [event.kind for event in events] == ["delivery.accepted", "run.opened"]
    assert {event.actor for event in events} == {Actor(name="webhook:shop", auth="signature (stripe)")}
    assert set(private.values()) == {"ann1@example.com", "Book"}


def test_nothing_personal_lies_open(record: Record) -> None:
    accept(record, arrival(order(1)), arrival(b'{"customer": {"email": 7, "x": "ann1@example.com"}}', "evt_2"))
    with record.store.read() as tx:
        rows = [str(row) for table in (inbox, run, audit_event) for row in tx.execute(select(table))]
    assert not any("ann1@example" in row for row in rows)


def test_the_same_delivery_again_is_answered_with_the_first_id(record: Record, clock: HandClock) -> None:
    (first,) = accept(record, arrival(order(1)))
    clock.advance(hours=1)
    again = accept(record, arrival(order(1)), arrival(order(1)))
    assert again == [Accepted(delivery=first.delivery, outcome=Outcome.KNOWN)] * 2
    assert counts(record) == (1, 1)


def test_other_bytes_under_the_same_key_are_an_alarm_once(record: Record) -> None:
    (first,) = accept(record, arrival(order(1)))
    other = accept(record, arrival(order(1, x=1)), arrival(order(1, x=2)))
    assert other == [Accepted(delivery=first.delivery, outcome=Outcome.CONFLICT)] * 2
    with record.store.read() as tx:
        (alarm,) = record.trail.chain(tx, f"alarm:{first.delivery}")
    assert (alarm.kind, alarm.data["delivery"]) == ("delivery.conflict", first.delivery)
    assert alarm.actor == Actor(name="webhook:shop", auth="signature (stripe)")
    assert HostInbox(record).raw(first.delivery)[0] == order(1)
    assert counts(record) == (1, 1)


def test_the_same_key_through_another_webhook_is_another_delivery(record: Record) -> None:
    other = hook(name="other", proof=Proof(scheme="none"))
    one, two = accept(record, arrival(order(1)), arrival(order(1), hook=other))
    assert one.delivery != two.delivery
    with record.store.read() as tx:
        accepted = record.trail.chain(tx, f"r-{two.delivery[2:]}")[0]
    assert accepted.actor == Actor(name="webhook:other", auth="unsigned (secret address)")


def unlucky(request: Order) -> str:
    """Never get so far."""
    return ""


def _no_case(request: Order) -> str:
    raise LookupError(request.email)


UNFIT: dict[str, tuple[bytes, ProcessDefinition, str]] = {
    "no JSON": (b"\xff not json", SERVE, "the body is no JSON"),
    "empty": (b"", SERVE, "the body is no JSON"),
    "not a number": (b'{"customer": {"email": NaN}}', SERVE, "the body is no JSON"),
    "too deep": (b"[" * 200_000, SERVE, "the body is no JSON"),
    "too long a number": (b"1" * 10_000, SERVE, "the body is no JSON"),
    "another shape": (b'["ann@example.com"]', SERVE, "email is missing"),
    "another type": (b'{"customer": {"email": ["ann@example.com"]}}', SERVE, "email should be a valid string"),
    "surrogate": (b'{"customer": {"email": "\\ud800"}}', SERVE, "the run cannot be opened: UnicodeEncodeError"),
    "no case": (order(1), ProcessDefinition("serve", unlucky, _no_case), "the run cannot be opened: LookupError"),
}


@pytest.mark.parametrize(("body", "process", "note"), UNFIT.values(), ids=UNFIT)
def test_what_is_no_input_is_a_dead_letter(record: Record, body: bytes, process: ProcessDefinition, note: str) -> None:
    fine = arrival(order(2), "evt_2")
    accepted, other = accept(record, arrival(body, hook=hook(process)), fine)
    assert (accepted.outcome, other.outcome) == (Outcome.ACCEPTED, Outcome.ACCEPTED)
    (found,) = HostInbox(record).listed(state=DeliveryState.DEAD_LETTER, limit=9)
    assert found.note.startswith(note)
    assert (found.delivery, found.run_id) == (accepted.delivery, None)
    assert HostInbox(record).raw(found.delivery)[0] == body
    assert counts(record) == (2, 1)
    with record.store.read() as tx:
        assert [event.kind for event in record.trail.chain(tx, found.delivery)] == ["delivery.accepted"]
        assert verify(tx).breaches == ()


# --- groups, threads and deaths ----------------------------------------------------------------------------------


@contextmanager
def writing(accept: Callable[[Sequence[Arrival]], list[Accepted]], *, group: int = 64) -> Iterator[Writer]:
    writer = Writer(accept, group=group)
    writer.start()
    yield writer
    writer.stop()


def test_arrivals_that_come_while_one_is_committed_share_the_next_transaction(record: Record) -> None:
    boundaries: list[str] = []
    first_is_in, others_wait = Event(), Event()

    def boundary(kind: str) -> None:
        boundaries.append(kind)
        if kind == "commit":
            first_is_in.set()
            assert others_wait.wait(30)

    acceptance = Acceptance(watched(record, boundary), Runs(record))
    with writing(acceptance.accept, group=10) as writer:
        answers = [writer.submit(arrival(order(0), "evt_0"))]
        assert first_is_in.wait(30)
        answers += [writer.submit(arrival(order(n), f"evt_{n}")) for n in range(1, 21)]
        others_wait.set()
        assert {answer.result(30).outcome for answer in answers} == {Outcome.ACCEPTED}
    assert boundaries.count("committed") == 3
    assert counts(record) == (21, 21)


def test_concurrent_duplicates_have_one_run(reopen: Callable[[], Record]) -> None:
    """Two gateways, sixteen senders, each delivery sent eight times."""
    records = [reopen(), reopen()]
    number = cases(30, 1250)
    acceptances = [Acceptance(record, Runs(record)) for record in records]
    with (
        writing(acceptances[0].accept) as one,
        writing(acceptances[1].accept) as two,
        ThreadPoolExecutor(16) as senders,
    ):

        def send(n: int) -> Accepted:
            return (one, two)[n % 2].submit(arrival(order(n // 8), f"evt_{n // 8}")).result(60)

        answers = list(senders.map(send, range(number * 8)))
    assert {answer.outcome for answer in answers} <= {Outcome.ACCEPTED, Outcome.KNOWN}
    assert len({answer.delivery for answer in answers}) == number
    assert sum(answer.outcome is Outcome.ACCEPTED for answer in answers) == number
    assert counts(records[0]) == (number, number)
    with records[0].store.read() as tx:
        assert verify(tx).breaches == ()


def test_a_lost_connection_at_the_commit_is_tried_again(record: Record) -> None:
    acceptance = Acceptance(watched(record, fails(only_commit=1)), Runs(record))
    with writing(acceptance.accept) as writer:
        assert writer.submit(arrival(order(1))).result(30).outcome is Outcome.ACCEPTED
    assert counts(record) == (1, 1)


def test_a_commit_that_succeeded_unseen_is_answered_with_the_same_delivery(record: Record) -> None:
    """The connection is lost after the commit: the second try finds what the first one stored."""
    lost = iter([DBAPIError("COMMIT", {}, Exception("lost"))])

    def boundary(kind: str) -> None:
        if kind == "committed" and (error := next(lost, None)):
            raise error

    acceptance = Acceptance(watched(record, boundary), Runs(record))
    with writing(acceptance.accept) as writer:
        assert writer.submit(arrival(order(1))).result(30).outcome is Outcome.KNOWN
    assert counts(record) == (1, 1)


def test_while_the_store_fails_nothing_is_answered_with_success(record: Record) -> None:
    acceptance = Acceptance(watched(record, fails(from_commit=1)), Runs(record))
    with writing(acceptance.accept) as writer:
        answers = [writer.submit(arrival(order(n), f"evt_{n}")) for n in range(5)]
        assert all(isinstance(answer.exception(30), DBAPIError) for answer in answers)
    assert counts(record) == (0, 0)


def deadly(place: str, number: int) -> Callable[[str], None]:
    """Return what kills the process at one of three places of the n-th transaction: before, at the end, after it."""
    seen: list[str] = []

    def boundary(kind: str) -> None:
        seen.append(kind)
        if kind == place and seen.count(kind) == number:
            raise Killed

    return boundary


def answered_until_death(acceptance: Acceptance) -> list[str]:
    answered: list[str] = []
    try:
        for first in range(0, 12, 3):
            group = [arrival(order(n), f"evt_{n}") for n in range(first, first + 3)]
            answered += [accepted.delivery for accepted in acceptance.accept(group)]
    except Killed:
        return answered
    raise AssertionError("nobody died")


@pytest.mark.parametrize("place", ["write", "commit", "committed"])
@pytest.mark.parametrize("number", range(1, 5))
def test_a_death_loses_nothing_that_was_answered(
    record: Record, reopen: Callable[[], Record], place: str, number: int
) -> None:
    acceptance = Acceptance(watched(record, deadly(place, number)), Runs(record))
    answered = answered_until_death(acceptance)
    assert len(answered) == 3 * (number - 1)
    left = reopen()
    stored = {found.delivery for found in HostInbox(left).listed(limit=99)}
    assert {f"r-{delivery[2:]}" for delivery in stored} == {found.run_id for found in Runs(left).listed(limit=99)}
    unseen = 3 if place == "committed" else 0
    assert set(answered) <= stored
    assert len(stored) == len(answered) + unseen


def test_who_no_longer_waits_is_not_accepted(record: Record) -> None:
    release = Event()

    def slow(arrivals: Sequence[Arrival]) -> list[Accepted]:
        assert release.wait(30)
        return accept(record, *arrivals)

    with writing(slow, group=1) as writer:
        first, second = writer.submit(arrival(order(1))), writer.submit(arrival(order(2), "evt_2"))
        assert second.cancel()
        release.set()
        assert first.result(30).outcome is Outcome.ACCEPTED
    assert counts(record) == (1, 1)


def test_a_stop_accepts_what_waits(record: Record) -> None:
    release = Event()

    def slow(arrivals: Sequence[Arrival]) -> list[Accepted]:
        assert release.wait(30)
        return accept(record, *arrivals)

    answers: list[Future[Accepted]] = []
    with writing(slow, group=2) as writer:
        answers += [writer.submit(arrival(order(n), f"evt_{n}")) for n in range(7)]
        release.set()
    assert all(answer.done() for answer in answers)
    assert counts(record) == (7, 7)
