from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import update

from orchestrator.errors import (
    AccessDenied,
    LeaseLost,
    RateLimited,
    RecordError,
    Rejected,
    RunParked,
    RunPostponed,
    Unavailable,
)
from orchestrator.kernel.runs import LEASE, RunState
from orchestrator.ledger import effect_store
from orchestrator.ledger.states import CALL_GRACE, KEY_MARGIN, State
from orchestrator.plugins import DoubtClass
from orchestrator.record.record import Record
from orchestrator.record.tables import run
from orchestrator.toolkit import TimeLimit
from tests.support.clock import HandClock
from tests.support.doubtful_runs import DOWN, LOST, REPEATED, SEND_ONE, doubtful, go_on, state_of
from tests.support.kernel_bench import (
    ANN,
    KEY_LIFETIME,
    TIMEOUT,
    Bench,
    FakeSystem,
    Killed,
    dying,
    watched,
)
from tests.support.tampering import chain_of, disarm, remove


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("doubt", [*REPEATED, DoubtClass.PROBE])
def test_a_doubt_is_settled_as_its_class_says_and_the_effect_happens_once(
    bench: Bench, system: FakeSystem, clock: HandClock, doubt: DoubtClass, applied: bool
) -> None:
    run_id = doubtful(bench, system, doubt, applied=applied)
    assert state_of(bench, run_id) is State.IN_DOUBT
    go_on(bench, run_id, clock)
    assert set(system.applied.values()) == {1}
    assert len(system.calls) == (1 if doubt is DoubtClass.PROBE and applied else 2)
    assert state_of(bench, run_id) is State.CONFIRMED


@pytest.mark.parametrize("stop", [DOWN, RateLimited("slow down", retry_after=timedelta(minutes=9))])
@pytest.mark.parametrize("doubt", list(DoubtClass)[1:])
def test_an_attempt_that_certainly_did_nothing_is_simply_made_again(
    bench: Bench, system: FakeSystem, clock: HandClock, doubt: DoubtClass, stop: Unavailable
) -> None:
    system.doubt = doubt
    system.before.append(stop)
    run_id = bench.open(SEND_ONE)
    with pytest.raises(RunPostponed):
        bench.kernel.execute(SEND_ONE, run_id)
    assert state_of(bench, run_id) is State.PLANNED
    go_on(bench, run_id, clock)
    assert (set(system.applied.values()), system.probes) == ({1}, 0)


def test_a_key_is_not_relied_on_after_its_life(bench: Bench, system: FakeSystem, clock: HandClock) -> None:
    run_id = doubtful(bench, system, DoubtClass.NATIVE_KEY, applied=True)
    clock.advance(seconds=(KEY_LIFETIME - KEY_MARGIN).total_seconds())
    with pytest.raises(RunParked):
        bench.kernel.execute(SEND_ONE, run_id)
    assert (state_of(bench, run_id), system.calls) == (State.NEEDS_DECISION, ["send"])


@pytest.mark.parametrize(
    "stop", [DOWN, RateLimited("slow down", retry_after=KEY_LIFETIME), AccessDenied("the password is wrong")]
)
def test_a_repetition_that_did_nothing_does_not_make_an_older_doubt_forgotten(
    bench: Bench, system: FakeSystem, clock: HandClock, stop: Unavailable
) -> None:
    """The first call was applied; the second did nothing; when the third would come, the key is forgotten."""
    run_id = doubtful(bench, system, DoubtClass.NATIVE_KEY, applied=True)
    clock.now = bench.run(run_id).due_at
    system.before.append(stop)
    with pytest.raises((RunPostponed, RunParked)):
        bench.kernel.execute(SEND_ONE, run_id)
    clock.advance(hours=25)
    if bench.run(run_id).state is RunState.PARKED:
        bench.runs.resume(run_id, ANN)
    with pytest.raises(RunParked, match="nobody can know"):
        bench.kernel.execute(SEND_ONE, run_id)
    assert system.calls == ["send", "send"]


@pytest.mark.parametrize("commit", range(1, 6))
def test_a_death_in_a_repetition_does_not_make_an_older_doubt_forgotten(
    bench: Bench, system: FakeSystem, clock: HandClock, commit: int
) -> None:
    run_id = doubtful(bench, system, DoubtClass.NATIVE_KEY, applied=True)
    clock.now = bench.run(run_id).due_at
    with suppress(Killed):  # one that has fewer commits is not killed
        Bench(dying(bench.record, at_commit=commit), system).kernel.execute(SEND_ONE, run_id)
    clock.advance(hours=25)
    if bench.run(run_id).state is not RunState.DONE and state_of(bench, run_id) is not State.CONFIRMED:
        before = list(system.calls)
        with pytest.raises(RunParked, match="nobody can know"):
            bench.kernel.execute(SEND_ONE, run_id)
        assert system.calls == before


def test_repeating_does_not_make_a_key_live_longer(bench: Bench, system: FakeSystem, clock: HandClock) -> None:
    run_id = doubtful(bench, system, DoubtClass.NATIVE_KEY, applied=True)
    for _ in range(2):
        clock.advance(hours=10)
        system.before.append(LOST)
        with pytest.raises(RunPostponed):
            bench.kernel.execute(SEND_ONE, run_id)
    clock.advance(hours=10)
    with pytest.raises(RunParked, match="nobody can know"):
        bench.kernel.execute(SEND_ONE, run_id)
    assert system.calls == ["send"] * 3


def test_a_key_lives_from_the_attempt_that_first_used_it(bench: Bench, system: FakeSystem, clock: HandClock) -> None:
    """An attempt that did nothing on the first day does not count against the key of the second."""
    system.doubt = DoubtClass.NATIVE_KEY
    system.before.append(RateLimited("tomorrow", retry_after=timedelta(hours=25)))
    run_id = bench.open(SEND_ONE)
    with pytest.raises(RunPostponed):
        bench.kernel.execute(SEND_ONE, run_id)
    clock.advance(hours=25)
    system.after.append(LOST)
    with pytest.raises(RunPostponed):
        bench.kernel.execute(SEND_ONE, run_id)
    go_on(bench, run_id, clock)
    assert set(system.applied.values()) == {1}


def test_a_call_is_not_made_when_its_turn_came_too_late(bench: Bench, system: FakeSystem, clock: HandClock) -> None:
    """The worker hung between its commit and the call: others may already believe that the call never was."""
    run_id = bench.open(SEND_ONE)

    def hang(kind: str) -> None:
        if kind == "committed" and "effect.attempt" in bench.kinds(run_id) and len(bench.kinds(run_id)) == 3:
            clock.advance(seconds=CALL_GRACE.total_seconds() + 1)

    with pytest.raises(RunPostponed, match="too long"):
        Bench(watched(bench.record, hang), system).kernel.execute(SEND_ONE, run_id)
    assert (system.calls, state_of(bench, run_id)) == ([], State.PLANNED)
    go_on(bench, run_id, clock)
    assert set(system.applied.values()) == {1}


def test_a_call_has_no_more_time_than_others_give_it(bench: Bench, system: FakeSystem) -> None:
    """However late the connector looks at the clock for the first time: the process may stand still before."""
    left: list[float] = []
    system.before.append(lambda: left.append(TimeLimit(seconds=10_000).left))
    bench.kernel.execute(SEND_ONE, bench.open(SEND_ONE))
    assert 0 < left[0] <= (TIMEOUT + CALL_GRACE).total_seconds()
    assert TimeLimit(seconds=10_000).left > 9_000


def test_a_call_that_may_still_be_under_way_is_waited_for(bench: Bench, system: FakeSystem, clock: HandClock) -> None:
    """The run was given back in the middle of a call: what was raised there told nothing of its outcome."""
    run_id = bench.open(SEND_ONE)
    system.before.append(RecordError("the record cannot be read"))
    with pytest.raises(RunParked):
        bench.kernel.execute(SEND_ONE, run_id)
    bench.runs.resume(run_id, ANN)
    over = clock.now + TIMEOUT + CALL_GRACE
    with pytest.raises(RunPostponed, match="an earlier call may still be under way") as caught:
        bench.kernel.execute(SEND_ONE, run_id)
    assert (caught.value.due_at, state_of(bench, run_id)) == (over, State.ATTEMPTING)
    go_on(bench, run_id, clock)
    assert set(system.applied.values()) == {1}


@pytest.mark.parametrize("outcome", [None, LOST, DOWN, Rejected("no such recipient")])
def test_an_outcome_that_comes_too_late_is_recorded_and_moves_nothing(
    bench: Bench, system: FakeSystem, clock: HandClock, outcome: Exception | None
) -> None:
    run_id = bench.open(SEND_ONE)
    other = Bench(bench.record, FakeSystem(), owner="worker-2")
    other.system = system

    def overtaken() -> None:
        clock.advance(minutes=10)
        other.kernel.execute(SEND_ONE, run_id)
        if outcome is not None:
            raise outcome

    system.after.append(overtaken)
    with pytest.raises(LeaseLost):
        bench.kernel.execute(SEND_ONE, run_id)
    assert system.calls == ["send"]
    assert bench.run(run_id).state is RunState.DONE
    (late,) = bench.events(f"alarm:{run_id}:1")
    assert (late.kind, late.context.effect_id) == ("effect.late", bench.effects(run_id)[0]["effect_id"])
    assert late.data["outcome"] == ("success" if outcome is None else type(outcome).__name__)


def test_an_effect_whose_outcome_was_cut_off_the_record_is_not_done_again(record: Record, system: FakeSystem) -> None:
    bench = Bench(record, system)
    run_id = bench.open(SEND_ONE)
    bench.kernel.execute(SEND_ONE, run_id)
    with bench.record.store.write() as tx:
        disarm(tx)
        remove(tx, *chain_of(tx, run_id)[-2:])
        tx.execute(update(run).values(state=RunState.READY))
    with pytest.raises(RunParked, match="is confirmed, but its run's chain does not say so"):
        bench.kernel.execute(SEND_ONE, run_id)
    assert system.calls == ["send"]


@pytest.mark.parametrize(("attempt", "state"), [(2, State.CONFIRMED), (1, State.ATTEMPTING), (0, State.CONFIRMED)])
def test_an_effect_is_moved_only_from_where_it_is_believed_to_be(
    bench: Bench, system: FakeSystem, attempt: int, state: State
) -> None:
    run_id = bench.open(SEND_ONE)
    bench.kernel.execute(SEND_ONE, run_id)
    before = bench.effects(run_id)
    with pytest.raises(LeaseLost, match="somebody else moved it"), bench.record.store.write() as tx:
        effect_store.move(tx, before[0]["effect_id"], attempt, state, {"state": State.PLANNED})
    assert bench.effects(run_id) == before


def test_the_lease_covers_the_call(bench: Bench, system: FakeSystem, clock: HandClock) -> None:
    run_id = bench.open(SEND_ONE)
    seen: list[list[str]] = []

    def look() -> None:
        clock.advance(seconds=(TIMEOUT + LEASE / 2).total_seconds())
        seen.append(bench.runs.due(limit=10))
        clock.advance(seconds=0.000001)
        seen.append(bench.runs.due(limit=10))

    system.after.append(look)
    bench.kernel.execute(SEND_ONE, run_id)
    assert seen == [[], [run_id]]
