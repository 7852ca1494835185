from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import Connection, select

from orchestrator.errors import LeaseLost, NotRecorded, RecordError
from orchestrator.kernel import run_store
from orchestrator.kernel.run_model import Holder, Release
from orchestrator.kernel.run_states import ENDED, TRANSITIONS, Cause, Mirror, RunState, advance
from orchestrator.kernel.run_times import due_in, lease_for, now_of
from orchestrator.record.record import Record
from orchestrator.record.tables import run
from tests.support.clock import HandClock
from tests.support.deep import cases
from tests.support.kernel_bench import ANN, Bench, process, send_one

SEND_ONE = process(send_one)
LEASE = timedelta(seconds=60)
REFUSALS = (RecordError, NotRecorded, LeaseLost)
WAY_TO: Mapping[RunState, tuple[Cause, ...]] = {
    RunState.READY: (),
    RunState.RUNNING: (Cause.TAKE,),
    RunState.PARKED: (Cause.TAKE, Cause.PARK),
    RunState.DONE: (Cause.TAKE, Cause.FINISH),
    RunState.FAILED: (Cause.TAKE, Cause.FAIL),
    RunState.CANCELLED: (Cause.CANCEL,),
}


class Verbs:
    """What anybody may try with one run."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.run_id = Bench(record, object()).open(SEND_ONE)
        self.holders = [Holder(run_id=self.run_id, owner="worker-1", fence=0)]
        """Everybody who has held the run, in turn."""

    def row(self) -> Any:
        with self.record.store.read() as tx:
            return tx.execute(select(run).where(run.c.run_id == self.run_id)).one()

    def attempt(self, verb: Callable[[Connection], Any]) -> Any:
        """Try something; return what it answers, or None if it is refused."""
        with suppress(*REFUSALS), self.record.store.write() as tx:
            return verb(tx)
        return None

    def move(self, cause: Cause, owner: str = "worker-1") -> Any:
        """Move the run for a cause, as the one who may."""
        due = due_in(self.record)
        match cause:
            case Cause.TAKE:
                return self.take(owner)
            case Cause.WAKE:
                return self.attempt(lambda tx: run_store.wake(tx, self.run_id, due))
            case Cause.RESTORE:
                return self.attempt(lambda tx: run_store.restore(tx, "post", due))
            case Cause.RESUME:
                return self.attempt(lambda tx: run_store.resume(tx, self.run_id, due))
            case Cause.CANCEL:
                return self.attempt(lambda tx: run_store.cancel(tx, self.run_id, "cancelled", self.record.clock()))
            case _:
                return self.hold(self.holders[-1], cause)

    def take(self, owner: str, *, due: bool = True) -> Any:
        when: dict[str, Any] = {"now": now_of(self.record), "lease": lease_for(self.record, LEASE)}
        if due:
            taken = self.attempt(lambda tx: run_store.take(tx, self.run_id, owner, **when))
        else:
            taken = self.attempt(lambda tx: run_store.acquire(tx, self.run_id, owner, "sample", **when))
        if taken is not None:
            self.holders.append(Holder(run_id=self.run_id, owner=owner, fence=taken.fence))
        return taken

    def hold(self, holder: Holder, cause: Cause | None) -> Any:
        """Commit a step, or give the run back; it waits for a connection if it is not over."""
        lease, release = lease_for(self.record, LEASE), None
        if cause is not None:
            due = due_in(self.record) if cause is Cause.POSTPONE else {}
            now = self.record.clock()
            release = Release(cause=cause, at=now, mirror=Mirror.DUE, reason="so", waits_for="post", due=due)
        return self.attempt(lambda tx: run_store.hold(tx, holder, lease=lease, deaths=0, release=release))


@pytest.mark.parametrize(
    ("state", "cause"), [each for each in product(RunState, Cause) if each[1] is not Cause.OPEN], ids=str
)
def test_each_verb_moves_a_run_as_the_table_says_or_not_at_all(
    record: Record, clock: HandClock, state: RunState, cause: Cause
) -> None:
    verbs = Verbs(record)
    for way in WAY_TO[state]:
        verbs.move(way)
    if cause is Cause.RESTORE and state is RunState.READY:  # only a postponed one waits for a connection
        verbs.move(Cause.TAKE)
        verbs.move(Cause.POSTPONE)
    clock.advance(seconds=LEASE.total_seconds() + 1)
    before = verbs.row()
    assert before.state == state
    verbs.move(cause)
    assert verbs.row().state == (TRANSITIONS[state, cause][0] if (state, cause) in TRANSITIONS else state)
    assert (verbs.row() == before) == ((state, cause) not in TRANSITIONS)


@pytest.mark.parametrize("cause", [Cause.PARK, Cause.POSTPONE])
def test_a_run_that_was_cancelled_while_it_was_under_way_is_due_at_once(
    record: Record, clock: HandClock, cause: Cause
) -> None:
    verbs = Verbs(record)
    verbs.move(Cause.TAKE)
    verbs.attempt(lambda tx: run_store.ask_to_cancel(tx, verbs.run_id, ANN))
    assert verbs.hold(verbs.holders[-1], cause) is True
    assert verbs.take("worker-2").cancelled_by == ANN.name


@pytest.mark.parametrize("cause", [None, Cause.FINISH, Cause.FAIL, Cause.PARK, Cause.POSTPONE])
def test_an_owner_that_lost_its_lease_moves_nothing(record: Record, clock: HandClock, cause: Cause | None) -> None:
    verbs = Verbs(record)
    verbs.move(Cause.TAKE)
    clock.advance(seconds=LEASE.total_seconds() + 1)
    verbs.move(Cause.TAKE, "worker-2")
    before = verbs.row()
    assert verbs.hold(verbs.holders[1], cause) is None
    assert verbs.row() == before


NO_MOVES: list[Callable[[Connection, str, Record], object]] = [
    lambda tx, run_id, record: run_store.ask_to_cancel(tx, run_id, ANN),
    lambda tx, run_id, record: run_store.ask_to_close(tx, run_id, ANN),
    lambda tx, run_id, record: run_store.reserve(tx, run_id, due_in(record, LEASE)),
    lambda tx, run_id, record: run_store.explain_parked(tx, run_id, "overdue"),
    lambda tx, run_id, record: run_store.restate_due(tx, run_id, record.clock()),
    lambda tx, run_id, record: run_store.claim_showing(tx, run_id, now=record.clock(), until=record.clock()),
    lambda tx, run_id, record: run_store.put_off_showing(tx, run_id, record.clock(), detach=True),
    lambda tx, run_id, record: run_store.mark_due(tx, run_id),
    lambda tx, run_id, record: run_store.mark_shown(tx, run_store.get(tx, run_id)),
    lambda tx, run_id, record: run_store.attach(tx, run_id, f"p-{run_id}", unless_attached=True),
]
"""The verbs that leave a run in its state."""


class OneRun(RuleBasedStateMachine):
    """One run, and everything that anybody may try with it, in any order."""

    record: Record
    clock: HandClock

    @initialize()
    def open(self) -> None:
        self.verbs = Verbs(self.record)
        self.before = self.verbs.row()

    def followed(self, cause: Cause | None) -> None:
        """Hold what happened to the run against the table."""
        before, after = self.before, self.verbs.row()
        state = RunState(before.state)
        if cause is None:
            assert after.state == state
        elif after != before:
            target = advance(state, cause)
            # An owner that parks a run did not know that somebody had cancelled it.
            wakes = target is RunState.PARKED and before.cancelled_by is not None
            assert after.state == (advance(target, Cause.WAKE) if wakes else target)
        self.before = after

    @rule(cause=st.sampled_from([each for each in Cause if each is not Cause.OPEN]), number=st.integers(1, 2))
    def move(self, cause: Cause, number: int) -> None:
        self.verbs.move(cause, f"worker-{number}")
        self.followed(cause)

    @rule(number=st.integers(1, 2))
    def acquire(self, number: int) -> None:
        self.verbs.take(f"worker-{number}", due=False)
        self.followed(Cause.TAKE)

    @rule(cause=st.sampled_from([None, Cause.FINISH, Cause.FAIL, Cause.PARK, Cause.POSTPONE]), late=st.booleans())
    def hold(self, cause: Cause | None, late: bool) -> None:
        holder = self.verbs.holders[0 if late else -1]
        held = self.verbs.hold(holder, cause)
        assert held is None or holder == self.verbs.holders[-1]
        self.followed(cause)

    @rule(late=st.booleans())
    def renew(self, late: bool) -> None:
        holder, lease = self.verbs.holders[0 if late else -1], lease_for(self.record, LEASE)
        self.verbs.attempt(lambda tx: run_store.renew(tx, holder, lease))
        self.followed(None)

    @rule(verb=st.sampled_from(NO_MOVES))
    def change_no_state(self, verb: Callable[[Connection, str, Record], object]) -> None:
        self.verbs.attempt(lambda tx: verb(tx, self.verbs.run_id, self.record))
        self.followed(None)

    @rule()
    def wait(self) -> None:
        self.clock.advance(seconds=LEASE.total_seconds() + 1)

    @invariant()
    def the_row_is_that_of_its_state(self) -> None:
        row = self.verbs.row()
        is_running, has_ended = row.state == RunState.RUNNING, row.state in ENDED
        assert ((row.owner is not None), (row.lease_until is not None)) == (is_running, is_running)
        assert (row.ended_at is not None) == has_ended
        assert not (has_ended and row.waits_for)
        assert row.fence == self.verbs.holders[-1].fence


def test_no_sequence_of_verbs_leaves_the_table(record: Record, clock: HandClock) -> None:
    OneRun.record, OneRun.clock = record, clock
    on_sqlite = record.store.dialect == "sqlite"
    run_state_machine_as_test(
        OneRun,
        settings=settings(
            max_examples=cases(50, 2_000) if on_sqlite else cases(10, 500),
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
