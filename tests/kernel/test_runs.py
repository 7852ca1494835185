from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from sqlalchemy import func, select

from orchestrator.capabilities import Mailer, OrderRecords, Value
from orchestrator.errors import (
    AccessDenied,
    LeaseLost,
    NotRecorded,
    Rejected,
    RunFailed,
    RunParked,
    RunPostponed,
    Unavailable,
)
from orchestrator.kernel.cases import QUIET
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.runs import LEASE, Run, RunState
from orchestrator.record.record import Record
from orchestrator.record.tables import customer_case, run, subject_key
from orchestrator.record.trail import Context, Draft
from tests.support.clock import HandClock
from tests.support.kernel_bench import ANN, Bench, Done, Errand, FakeSystem, Killed, process, send_one

SEND_ONE, CASED = process(send_one), process(send_one, cased=True)
TICK = timedelta(microseconds=1)


def count(record: Record, table: object) -> int:
    with record.store.read() as tx:
        return int(tx.execute(select(func.count()).select_from(table)).scalar_one())  # type: ignore[arg-type]


def test_a_run_that_was_opened_is_ready_at_once(bench: Bench, clock: HandClock) -> None:
    run_id = bench.open(SEND_ONE, prefect_run_id="p-1")
    opened = bench.run(run_id)
    assert (opened.state, opened.due_at, opened.created_at, opened.ended_at) == (RunState.READY, clock(), clock(), None)
    assert bench.runs.due(limit=10) == [run_id]
    assert bench.runs.of_prefect("p-1") == opened
    (event,) = bench.events(run_id)
    assert (event.kind, event.actor, event.context.process, event.context.prefect_run_id) == (
        "run.opened",
        ANN,
        "sample",
        "p-1",
    )


def test_opening_the_same_run_again_changes_nothing(bench: Bench, clock: HandClock) -> None:
    first = bench.open(CASED, run_id="r-1")
    bench.open(CASED, run_id="r-2")
    for run_id in ("r-1", "r-2"):
        bench.kernel.execute(CASED, run_id)
    clock.advance(seconds=(QUIET + TICK).total_seconds())
    before = [count(bench.record, table) for table in (run, customer_case, subject_key)], bench.run(first)
    assert bench.open(CASED, run_id="r-2") == "r-2"
    assert bench.open(SEND_ONE, run_id="r-1") == "r-1"
    assert ([count(bench.record, table) for table in (run, customer_case, subject_key)], bench.run(first)) == before
    assert bench.kinds("r-1").count("run.opened") == 1


def test_events_that_come_before_the_run_stand_first_in_its_chain(bench: Bench) -> None:
    run_id = bench.open(SEND_ONE, before=[Draft(kind="delivery.accepted", context=Context())])
    bench.kernel.execute(SEND_ONE, run_id)
    assert bench.kinds(run_id)[:3] == ["delivery.accepted", "run.opened", "effect.intent"]


def test_a_run_that_is_not_on_the_record_is_refused(bench: Bench) -> None:
    with pytest.raises(NotRecorded, match="no run r-none"):
        bench.kernel.execute(SEND_ONE, "r-none")
    with pytest.raises(NotRecorded):
        bench.runs.resume("r-none", ANN)


def test_a_run_is_never_executed_as_one_of_another_process(bench: Bench, system: FakeSystem) -> None:
    other = ProcessDefinition("another", send_one)
    run_id = bench.open(SEND_ONE)
    for _ in range(2):
        with pytest.raises(NotRecorded, match="is one of process sample, not of another"):
            bench.kernel.execute(other, run_id)
        bench.kernel.execute(SEND_ONE, run_id)
    assert system.calls == ["send"]


def test_what_is_due_is_exactly_what_waits_for_a_worker(bench: Bench, system: FakeSystem, clock: HandClock) -> None:
    outcomes: dict[str, BaseException] = {
        "r-postponed": Unavailable("down", no_effect=True),
        "r-parked": AccessDenied("the password is wrong"),
        "r-dead": Killed(),
    }
    for run_id, outcome in outcomes.items():
        bench.open(SEND_ONE, run_id=run_id)
        system.before.append(outcome)
        with pytest.raises((RunPostponed, RunParked, Killed)):
            bench.kernel.execute(SEND_ONE, run_id)
    bench.kernel.execute(SEND_ONE, bench.open(SEND_ONE, run_id="r-done"))
    system.before.append(Rejected("no such recipient"))
    with pytest.raises(RunFailed):
        bench.kernel.execute(SEND_ONE, bench.open(SEND_ONE, run_id="r-failed"))
    bench.open(SEND_ONE, run_id="r-new")
    assert bench.runs.due(limit=10) == ["r-new"]
    clock.now = bench.run("r-postponed").due_at - TICK
    assert bench.runs.due(limit=10) == ["r-new"]
    clock.now += TICK
    assert bench.runs.due(limit=10) == ["r-new", "r-postponed"]
    clock.advance(hours=1)
    assert set(bench.runs.due(limit=10)) == {"r-new", "r-postponed", "r-dead"}
    assert len(bench.runs.due(limit=2)) == 2


def test_runs_of_a_process_that_a_worker_does_not_know_do_not_stand_in_its_way(bench: Bench, clock: HandClock) -> None:
    other = ProcessDefinition("other", SEND_ONE.body)
    strange = [bench.open(other) for _ in range(2)]
    bench.runs.acquire(strange[0], "worker-1", process="other")
    clock.now += LEASE + TICK
    mine = bench.open(SEND_ONE)
    assert bench.runs.due(limit=1, processes=["sample"]) == [mine]
    assert bench.runs.due(limit=9) == [*strange, mine]


def test_a_run_has_one_owner_until_its_lease_lapses(bench: Bench, clock: HandClock) -> None:
    run_id = bench.open(SEND_ONE)
    first = bench.runs.acquire(run_id, "worker-1", process="sample")
    clock.now += LEASE
    assert bench.runs.acquire(run_id, "worker-2", process="sample") is None
    clock.now += TICK
    second = bench.runs.acquire(run_id, "worker-2", process="sample")
    assert first is not None
    assert second is not None
    assert (first.fence, second.fence) == (1, 2)


def test_of_many_workers_that_reach_for_a_run_one_gets_it(bench: Bench) -> None:
    run_id = bench.open(SEND_ONE)
    ready = Barrier(6)

    def reach(name: str) -> Run | None:
        ready.wait(timeout=30)
        return bench.runs.acquire(run_id, name, process="sample")

    with ThreadPoolExecutor(6) as pool:
        taken = list(pool.map(reach, [f"worker-{number}" for number in range(6)]))
    assert len([each for each in taken if each is not None]) == 1


def test_a_second_worker_leaves_a_run_that_is_being_executed_alone(bench: Bench, system: FakeSystem) -> None:
    run_id = bench.open(SEND_ONE)
    other = Bench(bench.record, system, owner="worker-2")

    def meddle() -> None:
        with pytest.raises(LeaseLost, match="another worker has it"):
            other.kernel.execute(SEND_ONE, run_id)

    system.before.append(meddle)
    bench.kernel.execute(SEND_ONE, run_id)
    assert system.calls == ["send"]


def test_two_threads_of_one_worker_do_not_share_a_run(bench: Bench, system: FakeSystem, clock: HandClock) -> None:
    """They have the same name; the fence tells them apart."""
    run_id = bench.open(SEND_ONE)

    other = Bench(bench.record, system)

    def overtake() -> None:
        clock.advance(hours=1)
        other.kernel.execute(SEND_ONE, run_id)

    system.after.append(overtake)
    with pytest.raises(LeaseLost):
        bench.kernel.execute(SEND_ONE, run_id)
    assert (system.calls, bench.run(run_id).state) == (["send"], RunState.DONE)


def test_a_worker_that_was_overtaken_writes_nothing_more(bench: Bench, system: FakeSystem, clock: HandClock) -> None:
    run_id = bench.open(SEND_ONE)
    other = Bench(bench.record, system, owner="worker-2")
    left: list[list[str]] = []

    def overtake() -> None:
        clock.advance(hours=1)
        other.kernel.execute(SEND_ONE, run_id)
        left.append(bench.kinds(run_id))

    system.after.append(overtake)
    with pytest.raises(LeaseLost):
        bench.kernel.execute(SEND_ONE, run_id)
    assert left == [bench.kinds(run_id)]
    assert bench.kinds(f"alarm:{run_id}:1") == ["effect.late"]


def test_a_worker_that_meets_a_foreign_event_in_its_chain_stops_and_says_so(
    bench: Bench, system: FakeSystem, clock: HandClock
) -> None:
    run_id = bench.open(SEND_ONE)

    def write() -> None:
        with bench.record.store.write() as tx:
            bench.record.trail.append_alone(tx, run_id, Draft(kind="foreign", context=Context()), clock())

    system.after.append(write)
    with pytest.raises(LeaseLost, match="another owner wrote to its chain"):
        bench.kernel.execute(SEND_ONE, run_id)
    assert bench.kinds(f"alarm:{run_id}:1") == ["chain.fork", "effect.late"]
    clock.advance(minutes=10)
    bench.kernel.execute(SEND_ONE, run_id)
    assert system.calls == ["send"]


def looks_twice(errand: Errand, *, orders: OrderRecords) -> Done:
    orders.purchases_of(errand.email)
    orders.purchases_of(errand.email)
    return Done()


def test_slow_queries_do_not_cost_their_worker_the_run(bench: Bench, system: FakeSystem, clock: HandClock) -> None:
    run_id = bench.open(process(looks_twice))

    def slow() -> None:
        clock.advance(seconds=LEASE.total_seconds() * 0.9)
        assert bench.runs.due(limit=10) == []

    system.before.extend([slow, slow])
    assert bench.kernel.execute(process(looks_twice), run_id) == Done()
    assert bench.run(run_id).fence == 1


def test_quick_queries_cost_no_commit(bench: Bench, system: FakeSystem) -> None:
    run_id = bench.open(process(looks_twice))
    seen: list[list[str]] = []
    system.before.extend([None, lambda: seen.append(bench.kinds(run_id))])
    bench.kernel.execute(process(looks_twice), run_id)
    assert seen == [["run.opened"]]


@pytest.mark.parametrize("stop", [AccessDenied("the password is wrong"), OverflowError()], ids=["parked", "failed"])
def test_a_person_lets_a_stopped_run_go_on_and_is_recorded(bench: Bench, system: FakeSystem, stop: Exception) -> None:
    stops = [stop]

    def stumbles(errand: Errand, *, mailer: Mailer) -> Done:
        if stops:
            raise stops.pop()
        return send_one(errand, mailer=mailer)

    definition = process(stumbles)
    run_id = bench.open(definition)
    with pytest.raises((RunParked, RunFailed)):
        bench.kernel.execute(definition, run_id)
    assert bench.runs.due(limit=10) == []
    bench.runs.resume(run_id, ANN)
    resumed = bench.run(run_id)
    assert (resumed.state, resumed.reason, resumed.ended_at, resumed.postponed) == (RunState.READY, "", None, 0)
    bench.kernel.execute(definition, run_id)
    (event,) = [event for event in bench.events(run_id) if event.kind == "run.resumed"]
    assert event.actor == ANN


def test_only_a_stopped_run_is_resumed(bench: Bench) -> None:
    run_id = bench.open(SEND_ONE)
    with pytest.raises(NotRecorded, match="is not parked and has not failed"):
        bench.runs.resume(run_id, ANN)
    bench.kernel.execute(SEND_ONE, run_id)
    with pytest.raises(NotRecorded):
        bench.runs.resume(run_id, ANN)
    assert "run.resumed" not in bench.kinds(run_id)


class Unfit(Value):
    weight: float = 0.5


def test_a_request_that_has_no_place_in_the_record_opens_no_run(bench: Bench) -> None:
    with pytest.raises(ValueError, match="float"):
        bench.open(SEND_ONE, Unfit(), run_id="r-1")  # type: ignore[arg-type]
    assert (count(bench.record, run), count(bench.record, subject_key)) == (0, 0)


def opened_for(bench: Bench, clock: HandClock, *names: str, email: str = "anna@example.com") -> None:
    for name in names:
        bench.open(CASED, Errand(email=email), run_id=name)
        clock.advance(seconds=1)


def claimed(bench: Bench, limit: int = 10) -> list[str]:
    return [each.run_id for each in bench.kernel.claim(most=limit, processes=["sample"]).runs]


def test_runs_of_one_case_go_on_one_at_a_time_and_in_their_order(bench: Bench, clock: HandClock) -> None:
    opened_for(bench, clock, "r-2", "r-1")
    opened_for(bench, clock, "r-3", email="tom@example.com")
    assert bench.runs.due(limit=10) == ["r-2", "r-3"]
    assert claimed(bench) == ["r-2", "r-3"]
    assert claimed(bench) == []
    bench.kernel.go_on(CASED, bench.run("r-2"))
    assert claimed(bench) == ["r-1"]


def test_a_run_that_is_not_due_yet_holds_no_other_one_up(bench: Bench, system: FakeSystem, clock: HandClock) -> None:
    opened_for(bench, clock, "r-1", "r-2")
    system.before.append(Unavailable("down", no_effect=True))
    with pytest.raises(RunPostponed) as caught:
        bench.kernel.execute(CASED, "r-1")
    assert claimed(bench) == ["r-2"]
    clock.now = caught.value.due_at
    assert claimed(bench) == []  # its turn, but the later one is under way


def test_a_dead_owner_holds_its_case_up_until_its_lease_lapses(bench: Bench, clock: HandClock) -> None:
    opened_for(bench, clock, "r-1", "r-2")
    assert claimed(bench) == ["r-1"]
    clock.now += LEASE + TICK
    assert claimed(bench) == ["r-1"]
    assert bench.run("r-1").fence == 2


def test_a_worker_takes_only_what_it_knows_and_is_not_held_up_by_the_rest(bench: Bench, clock: HandClock) -> None:
    for number in range(20):
        bench.open(ProcessDefinition("switched-off", send_one), run_id=f"r-off-{number}")
    opened_for(bench, clock, "r-1")
    assert claimed(bench, limit=2) == ["r-1"]


def test_of_many_workers_that_claim_at_once_each_run_goes_to_one_and_no_case_to_two(bench: Bench) -> None:
    for number in range(12):
        bench.open(CASED, Errand(email=f"customer-{number % 6}@example.com"), run_id=f"r-{number:02}")
    ready = Barrier(4)

    def claim(name: str) -> list[str]:
        ready.wait(timeout=30)
        return [each.run_id for each in bench.runs.claim(name, limit=3).runs]

    with ThreadPoolExecutor(4) as pool:
        taken = [run_id for each in pool.map(claim, [f"worker-{number}" for number in range(4)]) for run_id in each]
    assert sorted(taken) == [f"r-{number:02}" for number in range(6)]
