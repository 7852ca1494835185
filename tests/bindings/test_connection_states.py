"""Connections that stop working, the runs that wait for them, and how both go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.bindings.guard import FAILURES, ConnectionState
from orchestrator.errors import AccessDenied, RunError, Unavailable
from orchestrator.kernel.kernel import PATIENCE
from orchestrator.kernel.runs import Run, RunState
from orchestrator.record.verify import verify
from orchestrator.worker.watch import look_again
from tests.support.app_with_fakes import ANNA, Office
from tests.support.console import Console

DENIED = AccessDenied("the password is wrong: write the right one")


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    yield office
    with office.app.record.store.read() as tx:
        assert not verify(tx).breaches
    office.app.record.store.close()


def run_of(office: Office, run_id: str) -> Run:
    with office.app.record.store.read() as tx:
        return office.app.runs.get(tx, run_id)


def go_on(office: Office, run_id: str) -> Run:
    with suppress(RunError):
        office.app.kernel.execute(office.app.definition("lost-download"), run_id)
    return run_of(office, run_id)


def kinds(office: Office, chain: str) -> list[str]:
    with office.app.record.store.read() as tx:
        return [event.kind for event in office.app.record.trail.chain(tx, chain)]


def test_a_run_waits_for_a_refused_credential_and_goes_on_by_itself_once_it_is_mended(office: Office) -> None:
    office.orders.fail_next(DENIED)
    run_id = office.serve(ANNA)
    assert run_of(office, run_id).state is RunState.PARKED
    (ailing,) = office.app.health.ailing()
    assert (ailing.connection, ailing.state, ailing.reason) == ("shop", ConnectionState.DENIED, str(DENIED))
    look_again(office.app)
    assert office.app.health.ailing() == []
    assert office.app.runs.due(limit=9) == [run_id]
    assert go_on(office, run_id).state is RunState.DONE
    assert "run.resumed" in kinds(office, run_id)
    assert kinds(office, "connection:shop") == ["connection.denied", "connection.working"]


def test_a_connection_whose_check_fails_still_ails(office: Office) -> None:
    office.orders.fail_next(DENIED)
    run_id = office.serve(ANNA)
    office.orders.check = lambda: 1 / 0  # type: ignore[method-assign,assignment]
    look_again(office.app)
    assert [each.connection for each in office.app.health.ailing()] == ["shop"]
    assert run_of(office, run_id).state is RunState.PARKED


def test_a_check_that_proves_too_little_does_not_wake_a_run_for_ever(office: Office) -> None:
    office.orders.fail_next(DENIED)
    run_id = office.serve(ANNA)
    for _ in range(PATIENCE - 1):
        look_again(office.app)
        assert office.app.runs.due(limit=9) == [run_id]
        office.orders.fail_next(DENIED)
        go_on(office, run_id)
    look_again(office.app)
    assert office.app.runs.due(limit=9) == []
    assert run_of(office, run_id).state is RunState.PARKED


def test_runs_that_a_connection_held_up_go_on_as_soon_as_it_answers(office: Office) -> None:
    for _ in range(FAILURES):
        office.orders.fail_next(Unavailable("no answer"))
    waiting = [office.serve(ANNA), *(office.serve(f"customer-{n}@example.com") for n in range(1, FAILURES))]
    assert [each.state for each in office.app.health.ailing()] == [ConnectionState.DOWN]
    assert office.app.runs.due(limit=9) == []
    look_again(office.app)
    assert sorted(office.app.runs.due(limit=9)) == sorted(waiting)
    assert go_on(office, waiting[0]).state is RunState.DONE


def test_the_list_of_connections_shows_what_ails(office: Office, capsys: pytest.CaptureFixture[str]) -> None:
    from orchestrator.bootstrap import use

    use(office.app)
    office.orders.fail_next(DENIED)
    office.serve(ANNA)
    rows = {row["connection"]: row for row in Console(capsys)("connections", "--json").json}
    assert (rows["shop"]["state"], rows["shop"]["reason"]) == ("denied", str(DENIED))
    assert [rows[name]["state"] for name in ("files", "outbox")] == ["untried", "untried"]


def test_a_connection_works_once_it_has_answered_a_run_or_a_check(
    office: Office, capsys: pytest.CaptureFixture[str]
) -> None:
    from orchestrator.bootstrap import use

    def states() -> dict[str, str]:
        return {row["connection"]: row["state"] for row in console("connections", "--json").json}

    use(office.app)
    office.app.record  # noqa: B018 - the list makes none
    console = Console(capsys)
    assert set(states().values()) == {"untried"}
    office.serve(ANNA)
    assert {name for name, state in states().items() if state == "working"} == {"shop", "files", "outbox"}
    assert kinds(office, "connection:shop") == []
    console("check")
    assert set(states().values()) == {"working"}


def test_an_answer_does_not_say_that_a_refused_credential_is_accepted(office: Office) -> None:
    office.app.health.report("shop", ConnectionState.DENIED, "no")
    office.serve(ANNA)
    assert [each.connection for each in office.app.health.ailing()] == ["shop"]
