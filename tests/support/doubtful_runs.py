"""Runs whose effect is in doubt."""

from __future__ import annotations

import pytest

from orchestrator.errors import (
    RunParked,
    RunPostponed,
    Unavailable,
)
from orchestrator.ledger.states import State
from orchestrator.plugins import DoubtClass
from tests.support.clock import HandClock
from tests.support.kernel_bench import (
    Bench,
    FakeSystem,
    process,
    send_one,
)

SEND_ONE = process(send_one)
LOST = Unavailable("the connection was lost")
DOWN = Unavailable("cannot connect", no_effect=True)
REPEATED = [DoubtClass.NATURAL, DoubtClass.NATIVE_KEY]


def state_of(bench: Bench, run_id: str) -> State:
    (effect,) = bench.effects(run_id)
    return State(effect["state"])


def doubtful(bench: Bench, system: FakeSystem, doubt: DoubtClass, *, applied: bool) -> str:
    """Open a run and let its effect end in doubt."""
    system.doubt = doubt
    (system.after if applied else system.before).append(LOST)
    run_id = bench.open(SEND_ONE)
    with pytest.raises((RunPostponed, RunParked)):
        bench.kernel.execute(SEND_ONE, run_id)
    return run_id


def go_on(bench: Bench, run_id: str, clock: HandClock, tries: int = 20) -> None:
    """Execute a run whenever it is due until it is done."""
    for _ in range(tries):
        clock.now = max(clock.now, bench.run(run_id).due_at)
        try:
            bench.kernel.execute(SEND_ONE, run_id)
        except RunPostponed:
            continue
        return
    pytest.fail("the run does not come to its end")
