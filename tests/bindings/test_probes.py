from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.capabilities import (
    Decision,
)
from orchestrator.errors import (
    AccessDenied,
    NotFound,
    Rejected,
    RunParked,
    RunPostponed,
    Unavailable,
)
from orchestrator.kernel.runs import RunState
from orchestrator.ledger.states import CALL_GRACE, State
from orchestrator.plugins import DoubtClass
from tests.support.clock import HandClock
from tests.support.doubtful_runs import SEND_ONE, doubtful, go_on, state_of
from tests.support.kernel_bench import (
    ANN,
    SETTLE,
    TIMEOUT,
    Bench,
    FakeSystem,
)


def test_a_probe_waits_until_an_absence_proves_something(bench: Bench, system: FakeSystem, clock: HandClock) -> None:
    start = clock.now
    run_id = doubtful(bench, system, DoubtClass.PROBE, applied=False)
    believable = start + TIMEOUT + CALL_GRACE + SETTLE
    clock.now = believable - timedelta(microseconds=1)
    with pytest.raises(RunPostponed) as caught:
        bench.kernel.execute(SEND_ONE, run_id)
    assert (caught.value.due_at, system.probes, system.calls) == (believable, 0, ["send"])
    clock.now = believable
    bench.kernel.execute(SEND_ONE, run_id)
    assert (system.probes, system.calls) == (1, ["send", "send"])


@pytest.mark.parametrize(
    "error", [Rejected("no"), NotFound("no"), AccessDenied("no"), KeyError("no"), Unavailable("no")]
)
def test_what_a_probe_raises_is_no_answer_to_the_process(
    bench: Bench, system: FakeSystem, clock: HandClock, error: Exception
) -> None:
    run_id = doubtful(bench, system, DoubtClass.PROBE, applied=True)
    clock.advance(minutes=10)
    system.probe_failures.append(error)
    with pytest.raises((RunPostponed, RunParked)):
        bench.kernel.execute(SEND_ONE, run_id)
    assert state_of(bench, run_id) is State.IN_DOUBT
    if bench.run(run_id).state is RunState.PARKED:
        bench.runs.resume(run_id, ANN)
    go_on(bench, run_id, clock)
    assert system.calls == ["send"]


@pytest.mark.parametrize("answer", ["a receipt", True, {"reference": 5}, Decision(option="x")])
def test_what_a_probe_answers_must_be_of_the_promised_type(
    bench: Bench, system: FakeSystem, clock: HandClock, answer: object
) -> None:
    run_id = doubtful(bench, system, DoubtClass.PROBE, applied=True)
    clock.advance(minutes=10)
    system.probe_failures.append(lambda: answer)
    with pytest.raises(RunPostponed, match="something else than"):
        bench.kernel.execute(SEND_ONE, run_id)
    go_on(bench, run_id, clock)
    assert system.calls == ["send"]


def test_a_probe_that_cannot_tell_for_a_day_makes_way_for_a_person(
    bench: Bench, system: FakeSystem, clock: HandClock
) -> None:
    run_id = doubtful(bench, system, DoubtClass.PROBE, applied=True)
    waits, start = [], clock.now
    system.probe_failures.extend([Unavailable("the mailbox is down")] * 100)
    for _ in range(100):
        clock.now = max(clock.now, bench.run(run_id).due_at)
        try:
            bench.kernel.execute(SEND_ONE, run_id)
        except RunPostponed as exc:
            waits.append(exc.due_at - clock.now)
        except RunParked as exc:
            if "nobody can know" in str(exc):
                break
            bench.runs.resume(run_id, ANN)
    assert state_of(bench, run_id) is State.NEEDS_DECISION
    assert timedelta(hours=24) < clock.now - start < timedelta(hours=26)
    assert max(waits) <= timedelta(hours=1)
    assert len(waits) < 50
