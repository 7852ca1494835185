from __future__ import annotations

import pytest

from orchestrator.builtin.people import HostPeople
from orchestrator.capabilities import Decision, Option, People, Question
from orchestrator.errors import (
    NotRecorded,
    RecordError,
    Rejected,
    RunCancelled,
    RunFailed,
    RunParked,
    RunPostponed,
    Unavailable,
)
from orchestrator.kernel.cancellation import cancel
from orchestrator.kernel.kernel import Kernel
from orchestrator.kernel.lease import LOOK
from orchestrator.kernel.resolution import open_effects, settle
from orchestrator.kernel.runs import Mirror, RunState
from orchestrator.ledger.states import Cause, State
from orchestrator.plugins import DoubtClass
from orchestrator.plugins.standard import STANDARD
from orchestrator.record.tables import run as run_table
from tests.support.clock import HandClock
from tests.support.doubtful_runs import doubtful
from tests.support.kernel_bench import ANN, Bench, Errand, FakeSystem, Killed, process, send_link, send_one

SEND_LINK, SEND_ONE = process(send_link), process(send_one)


def ask(errand: Errand, *, people: People) -> None:
    """Ask a person."""
    people.decide(Question(title="What now?", known="", options=(Option(key="go", label="Go on"),)))


def mirror_of(bench: Bench, run_id: str) -> str:
    with bench.record.store.read() as tx:
        return str(tx.execute(run_table.select().where(run_table.c.run_id == run_id)).one().mirror)


def is_cancelled(bench: Bench, run_id: str) -> bool:
    """Whether a run stands as cancelled by Ann, once, in its chain, its row and for Prefect."""
    cancelled = [event for event in bench.events(run_id) if event.kind == "run.cancelled"]
    return (
        [event.actor for event in cancelled] == [ANN]
        and bench.run(run_id).state is RunState.CANCELLED
        and mirror_of(bench, run_id) == Mirror.DUE
    )


def test_a_run_that_is_under_way_stops_before_its_next_step(bench: Bench, system: FakeSystem, clock: HandClock) -> None:
    run_id = bench.open(SEND_LINK)

    def meanwhile() -> None:
        assert not cancel(bench.record, run_id, ANN)
        clock.now += LOOK

    system.after += [None, None, meanwhile]
    with pytest.raises(RunCancelled):
        bench.kernel.execute(SEND_LINK, run_id)
    assert system.calls == ["purchases_of", "link_to", "send"]
    assert [effect["state"] for effect in bench.effects(run_id)] == [State.CONFIRMED]
    assert is_cancelled(bench, run_id)
    with pytest.raises(RunCancelled):
        bench.kernel.execute(SEND_LINK, run_id)


@pytest.mark.parametrize(("after", "done"), [(1, 2), (2, 2), (3, 3)])
def test_no_effect_begins_once_a_run_is_cancelled_however_quick_it_is(
    bench: Bench, system: FakeSystem, after: int, done: int
) -> None:
    run_id = bench.open(SEND_LINK)
    system.after += [None] * (after - 1) + [lambda: cancel(bench.record, run_id, ANN)]
    with pytest.raises(RunCancelled):
        bench.kernel.execute(SEND_LINK, run_id)
    assert system.calls == ["purchases_of", "link_to", "send"][:done]  # a link changes nothing outside
    assert {effect["state"] for effect in bench.effects(run_id)} <= {State.CONFIRMED}
    assert is_cancelled(bench, run_id)


def test_a_run_that_had_no_step_left_is_done_and_shows_who_wanted_it_cancelled(
    bench: Bench, system: FakeSystem
) -> None:
    run_id = bench.open(SEND_ONE)
    system.after.append(lambda: cancel(bench.record, run_id, ANN))
    bench.kernel.execute(SEND_ONE, run_id)
    assert (bench.run(run_id).state, bench.run(run_id).cancelled_by) == (RunState.DONE, ANN.name)
    assert [event.kind for event in bench.events(run_id)][-1] == "run.finished"


def test_a_run_that_nobody_executes_is_cancelled_at_once(bench: Bench, clock: HandClock) -> None:
    run_id = bench.open(SEND_ONE)
    assert cancel(bench.record, run_id, ANN)
    assert is_cancelled(bench, run_id)
    clock.advance(hours=1)
    assert bench.runs.due(limit=10) == []


def test_a_failed_run_is_closed_and_leaves_nothing_open(bench: Bench, system: FakeSystem) -> None:
    run_id = bench.open(SEND_ONE)
    system.before.append(Rejected("no such address"))
    with pytest.raises(RunFailed):
        bench.kernel.execute(SEND_ONE, run_id)
    assert cancel(bench.record, run_id, ANN)
    assert is_cancelled(bench, run_id)
    assert bench.runs.listed(state=RunState.FAILED, limit=10) == []
    for again in (lambda: cancel(bench.record, run_id, ANN), lambda: bench.runs.resume(run_id, ANN)):
        with pytest.raises(NotRecorded):
            again()


def test_a_run_whose_owner_died_is_cancelled_once_its_lease_has_lapsed(
    bench: Bench, system: FakeSystem, clock: HandClock
) -> None:
    run_id = bench.open(SEND_ONE)
    system.after.append(Killed())
    with pytest.raises(Killed):
        bench.kernel.execute(SEND_ONE, run_id)
    assert not cancel(bench.record, run_id, ANN)
    clock.advance(hours=1)
    with pytest.raises(RunCancelled):
        bench.kernel.execute(SEND_ONE, run_id)
    assert (system.calls, is_cancelled(bench, run_id)) == (["send"], True)
    (left,) = open_effects(bench.record)
    assert left.state is State.NEEDS_DECISION  # nobody looks any more whether the mail was sent


def test_what_a_cancelled_run_left_in_doubt_is_settled_by_a_person_and_starts_nothing(
    bench: Bench, system: FakeSystem
) -> None:
    run_id = doubtful(bench, system, DoubtClass.NONE, applied=True)
    assert cancel(bench.record, run_id, ANN)
    effect_id = bench.effects(run_id)[0]["effect_id"]
    with pytest.raises(RecordError, match="was cancelled: only --happened or --give-up"):
        settle(bench.record, STANDARD, effect_id, Cause.RETRY, ANN)
    settle(bench.record, STANDARD, effect_id, Cause.HAPPENED, ANN)
    assert (open_effects(bench.record), is_cancelled(bench, run_id)) == ([], True)


def test_an_effect_that_surely_did_not_happen_is_given_up(bench: Bench, system: FakeSystem) -> None:
    run_id = bench.open(SEND_ONE)
    system.before.append(Unavailable("down", no_effect=True))
    with pytest.raises(RunPostponed):
        bench.kernel.execute(SEND_ONE, run_id)
    assert cancel(bench.record, run_id, ANN)
    assert [effect["state"] for effect in bench.effects(run_id)] == [State.ABANDONED]


def test_cancelling_while_a_run_is_about_to_wait_is_not_forgotten(
    bench: Bench, system: FakeSystem, clock: HandClock
) -> None:
    run_id = bench.open(SEND_ONE)

    def meanwhile() -> None:
        cancel(bench.record, run_id, ANN)
        raise Unavailable("down", no_effect=True)

    system.before.append(meanwhile)
    with pytest.raises(RunPostponed):
        bench.kernel.execute(SEND_ONE, run_id)
    assert bench.runs.due(limit=10) == [run_id]
    with pytest.raises(RunCancelled):
        bench.kernel.execute(SEND_ONE, run_id)
    assert (system.calls, is_cancelled(bench, run_id)) == (["send"], True)


def test_the_question_of_a_cancelled_run_waits_no_longer(bench: Bench) -> None:
    people, asking = HostPeople(bench.record), process(ask)
    bench.system = people
    run_id = bench.open(asking)
    with pytest.raises(RunParked):
        bench.kernel.execute(asking, run_id)
    (waiting,) = people.open_questions()
    assert cancel(bench.record, run_id, ANN)
    assert people.open_questions() == []
    with pytest.raises(NotRecorded):
        people.answer(waiting.question_id, Decision(option="go"), ANN)


def test_what_is_over_cannot_be_cancelled(bench: Bench) -> None:
    run_id = bench.open(SEND_ONE)
    bench.kernel.execute(SEND_ONE, run_id)
    for over in (run_id, "r-none"):
        with pytest.raises(NotRecorded, match="is over, or was never opened"):
            cancel(bench.record, over, ANN)
    assert bench.run(run_id).state is RunState.DONE


def test_a_worker_that_stops_lets_its_run_go_before_the_next_step(bench: Bench, system: FakeSystem) -> None:
    run_id = bench.open(SEND_LINK)
    stopping: list[bool] = []
    first = Kernel(bench.record, bench.runs, bench._bind, owner="worker-2", stopping=lambda: bool(stopping))
    system.after += [None, None, lambda: stopping.append(True)]
    with pytest.raises(RunPostponed, match="its worker was stopped"):
        first.execute(SEND_LINK, run_id)
    assert bench.runs.due(limit=10) == [run_id]
    bench.kernel.execute(SEND_LINK, run_id)
    assert system.calls == ["purchases_of", "link_to", "send", "note"]
