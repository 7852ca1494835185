"""Runs that runs start: now or later, once, linked, and never by a plain call."""

from __future__ import annotations

from datetime import datetime

import pytest

from orchestrator.capabilities import Cases, Receipt, Work
from orchestrator.errors import Rejected, RunFailed
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.runs import RunState
from orchestrator.process import process
from orchestrator.record.clock import stamp
from orchestrator.record.record import Record
from orchestrator.testing.contracts.builtin import ANN
from tests.support.builtin import Host, Served
from tests.support.clock import HandClock

IN_THREE_DAYS = datetime.fromisoformat("2026-03-04T09:00:00+00:00")
ASK_AGAIN = Work(process="serve", request=f'{{"email": "{ANN}"}}')


def follow_up(request: Served, *, cases: Cases) -> Receipt:
    """Start something now, and something later."""
    cases.start(ASK_AGAIN)
    return cases.start(ASK_AGAIN, at=IN_THREE_DAYS)


def careless(request: Served, *, cases: Cases) -> Receipt:
    return cases.start(ASK_AGAIN, at=datetime(2026, 3, 4, 9))  # noqa: DTZ001 - that is the mistake


FOLLOW_UP = ProcessDefinition("follow-up", follow_up, case_key=lambda request: request.email)


@pytest.fixture
def host(record: Record) -> Host:
    return Host(record)


def followed_up(host: Host) -> tuple[str, str, str]:
    """Return the ids of the run that starts two, of the one for now, and of the one for later."""
    parent = host.open(FOLLOW_UP, Served(email=ANN))
    later = host.execute(FOLLOW_UP, parent).reference
    now = next(run.run_id for run in host.runs.listed(limit=5) if run.run_id not in (parent, later))
    return parent, now, later


def test_a_process_without_a_mail_starts_runs_of_its_own_case(host: Host) -> None:
    parent, now, later = followed_up(host)
    for run_id in (now, later):
        run = host.run(run_id)
        assert (run.parent_run_id, run.case_id) == (parent, host.run(parent).case_id)
        assert run.subject_ref == host.run(parent).subject_ref


def test_a_run_for_later_is_a_row_that_comes_due_and_is_seen_meanwhile(host: Host, clock: HandClock) -> None:
    _, now, later = followed_up(host)
    assert host.runs.due(limit=5) == [now]
    (waiting,) = [run for run in host.runs.listed(state=RunState.READY, limit=5) if run.due_at > clock()]
    assert (waiting.run_id, waiting.due_at) == (later, IN_THREE_DAYS)
    assert host.chain(later)[0].data["due_at"] == stamp(IN_THREE_DAYS)
    clock.advance(days=3)
    (first,) = host.runs.due(limit=5)  # runs of one case go on one after the other
    assert first in (now, later)


def test_a_run_for_later_is_opened_once_however_often_its_parent_is_replayed(host: Host, clock: HandClock) -> None:
    parent, now, later = followed_up(host)
    clock.advance(hours=1)
    assert host.execute(FOLLOW_UP, parent).reference == later
    assert {run.run_id for run in host.runs.listed(limit=10)} == {parent, now, later}


def test_a_time_without_a_time_zone_is_refused(host: Host) -> None:
    run_id = host.open(ProcessDefinition("careless", careless), Served(email=ANN))
    with pytest.raises(RunFailed, match="at a time without a time zone; give it one"):
        host.execute(ProcessDefinition("careless", careless), run_id)
    with pytest.raises(Rejected):
        host.cases.start(ASK_AGAIN, at=datetime(2026, 3, 4, 9))  # noqa: DTZ001 - as above


def test_a_run_without_a_case_starts_one_for_the_same_person(host: Host) -> None:
    caseless = ProcessDefinition("caseless", follow_up)
    run_id = host.open(caseless, Served(email=ANN))
    started = host.execute(caseless, run_id).reference
    assert host.run(started).case_id is not None  # of its own key
    assert host.run(run_id).case_id is None


@process("inner")
def inner(request: Served) -> None:
    """Do nothing."""


def outer(request: Served) -> None:
    """Call another process as if it were a function."""
    inner(request)


def test_a_process_that_calls_a_process_is_told_what_to_do_instead(host: Host) -> None:
    run_id = host.open(ProcessDefinition("outer", outer), Served(email=ANN))
    with pytest.raises(RunFailed) as caught:
        host.execute(ProcessDefinition("outer", outer), run_id)
    assert str(caught.value) == (
        f"run {run_id} failed: PluginError: process outer calls process inner directly: each replay of its run would "
        "start another one; start it as a step instead: cases.start(inner.work(request))"
    )
    assert [run.run_id for run in host.runs.listed(limit=5)] == [run_id]
