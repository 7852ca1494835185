"""Leases and deadlines go by a clock that nobody sets; a run stays with the worker that executes it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from orchestrator.errors import LeaseLost, RunPostponed, Unavailable
from orchestrator.kernel.kernel import Kernel
from orchestrator.kernel.lease import LONGEST_STEP
from orchestrator.kernel.runs import LEASE, RunState
from orchestrator.ledger.states import State
from orchestrator.plugins import DoubtClass
from orchestrator.record.clock import SteadyClock, steady, utc_now
from orchestrator.record.record import Record, open_record
from orchestrator.record.tables import run
from tests.support.clock import HandClock
from tests.support.kernel_bench import (
    KEY_LIFETIME,
    TIMEOUT,
    Bench,
    FakeSystem,
    Killed,
    look_up,
    process,
    send_one,
    watched,
)

SEND_ONE, LOOK_UP = process(send_one), process(look_up)
TICK, DAY = timedelta(microseconds=1), timedelta(days=1)
JUMPS = [timedelta(minutes=10), -timedelta(minutes=10), DAY, -DAY]


class Machine:
    """A machine whose wall clock can be set: ``wall.now``; time goes on by ``go_on``."""

    def __init__(self) -> None:
        self.wall = HandClock()
        self.boot = timedelta(0)

    def go_on(self, by: timedelta) -> None:
        """Let time go by."""
        self.wall.now += by
        self.boot += by

    def steady(self) -> int:
        """Tell the time since the machine started, in microseconds."""
        return self.boot // TICK


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def record(record_url: str, tmp_path: Path, machine: Machine) -> Iterator[Record]:
    record = open_record(record_url, tmp_path / "key", machine.wall, SteadyClock("this boot", machine.steady))
    yield record
    record.store.close()


def claimed(bench: Bench) -> list[str]:
    return [each.run_id for each in bench.kernel.claim(most=10, processes=["sample"]).runs]


def dead(bench: Bench, system: FakeSystem) -> str:
    """Return a run whose worker died in its call."""
    run_id = bench.open(SEND_ONE)
    system.before.append(Killed())
    with pytest.raises(Killed):
        bench.kernel.execute(SEND_ONE, run_id)
    return run_id


@pytest.mark.parametrize("jump", JUMPS)
def test_a_lease_lapses_by_the_steady_clock(
    bench: Bench, system: FakeSystem, machine: Machine, jump: timedelta
) -> None:
    run_id = dead(bench, system)
    other = Bench(bench.record, system, owner="worker-2")
    machine.wall.now += jump
    assert claimed(other) == []
    machine.go_on(TIMEOUT + LEASE / 2)
    assert claimed(other) == []
    machine.go_on(TICK)
    assert claimed(other) == [run_id]


@pytest.mark.parametrize("jump", JUMPS)
def test_when_a_lease_lapses_is_told_as_the_wall_clock_will_show_it(
    bench: Bench, system: FakeSystem, machine: Machine, jump: timedelta
) -> None:
    dead(bench, system)
    machine.wall.now += jump
    next_due = bench.kernel.claim(most=10, processes=["sample"]).next_due
    assert next_due == machine.wall.now + TIMEOUT + LEASE / 2


def test_between_machines_the_wall_clock_tells_whether_a_lease_has_lapsed(
    bench: Bench, system: FakeSystem, machine: Machine
) -> None:
    run_id = dead(bench, system)
    elsewhere = replace(bench.record, steady=SteadyClock("another boot", lambda: 0))
    other = Bench(elsewhere, system, owner="worker-2")
    machine.wall.now += TIMEOUT + LEASE / 2
    assert claimed(other) == []
    machine.wall.now += TICK
    assert claimed(other) == [run_id]


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("doubt", [DoubtClass.PROBE, DoubtClass.NATIVE_KEY])
def test_a_doubt_is_settled_by_the_steady_clock(
    bench: Bench, system: FakeSystem, machine: Machine, jump: timedelta, doubt: DoubtClass
) -> None:
    """A clock that jumps makes neither a call end earlier nor a key live longer, nor the other way round."""
    system.doubt = doubt
    run_id = dead(bench, system)
    machine.wall.now += jump
    machine.go_on(TIMEOUT + LEASE / 2 + TICK)
    with pytest.raises(RunPostponed, match="cannot be known yet") if doubt is DoubtClass.PROBE else nullcontext():
        Bench(bench.record, system, owner="worker-2").kernel.execute(SEND_ONE, run_id)
    machine.go_on(KEY_LIFETIME / 2)
    Bench(bench.record, system, owner="worker-3").kernel.execute(SEND_ONE, run_id)
    (effect,) = bench.effects(run_id)
    assert (effect["state"], list(system.applied.values())) == (State.CONFIRMED, [1])


def test_a_key_is_not_relied_on_for_longer_because_the_clock_was_set_back(
    bench: Bench, system: FakeSystem, machine: Machine
) -> None:
    system.doubt = DoubtClass.NATIVE_KEY
    run_id = dead(bench, system)
    machine.go_on(KEY_LIFETIME)
    machine.wall.now -= DAY
    with pytest.raises(Exception, match="nobody can know"):
        Bench(bench.record, system, owner="worker-2").kernel.execute(SEND_ONE, run_id)
    assert system.applied == {}


def test_a_key_lives_from_the_first_call_whatever_was_repeated_since(
    bench: Bench, system: FakeSystem, machine: Machine
) -> None:
    """Each repetition is written by the clock of its own session; the first call's moment keeps its place."""
    system.doubt = DoubtClass.NATIVE_KEY
    run_id = dead(bench, system)
    for _ in range(2):
        machine.go_on(KEY_LIFETIME * 0.4)
        machine.wall.now -= DAY
        system.before.append(Killed())
        with pytest.raises(Killed):
            bench.kernel.execute(SEND_ONE, run_id)
    machine.go_on(KEY_LIFETIME * 0.2)
    with pytest.raises(Exception, match="nobody can know"):
        bench.kernel.execute(SEND_ONE, run_id)


@pytest.mark.parametrize("jump", JUMPS)
def test_a_call_is_not_left_because_the_clock_jumped_since_its_intent(
    bench: Bench, system: FakeSystem, machine: Machine, jump: timedelta
) -> None:
    def set_the_clock(kind: str) -> None:
        if kind == "committed":
            machine.wall.now += jump

    run_id = bench.open(SEND_ONE)
    Bench(watched(bench.record, set_the_clock), system).kernel.execute(SEND_ONE, run_id)
    assert (system.calls, bench.run(run_id).state) == (["send"], RunState.DONE)


def test_a_worker_never_takes_a_run_that_it_is_executing(bench: Bench, system: FakeSystem, machine: Machine) -> None:
    run_id = bench.open(LOOK_UP)
    seen: list[object] = []

    def look() -> None:
        machine.go_on(2 * LEASE)
        seen.append(claimed(bench))
        with pytest.raises(LeaseLost, match="this worker executes it already"):
            bench.kernel.execute(LOOK_UP, run_id)

    system.before.append(look)
    bench.kernel.execute(LOOK_UP, run_id)
    assert (seen, system.calls, bench.run(run_id).fence) == ([[]], ["purchases_of"], 1)


def test_a_run_that_its_worker_lost_is_taken_by_it_again(bench: Bench, system: FakeSystem, machine: Machine) -> None:
    run_id = dead(bench, system)
    machine.go_on(timedelta(hours=1))
    assert claimed(bench) == [run_id]


def test_a_query_that_takes_long_keeps_its_lease(bench: Bench, system: FakeSystem, machine: Machine) -> None:
    run_id, other = bench.open(LOOK_UP), Bench(bench.record, system, owner="worker-2")

    def ask() -> None:
        for _ in range(20):
            machine.go_on(LEASE / 2)
            bench.kernel.holding.renew()
            assert claimed(other) == []

    system.before.append(ask)
    bench.kernel.execute(LOOK_UP, run_id)
    assert system.calls == ["purchases_of"]


def test_a_query_that_hangs_loses_its_lease_and_the_log_says_so(
    bench: Bench, system: FakeSystem, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    run_id, other = bench.open(LOOK_UP), Bench(bench.record, system, owner="worker-2")

    def hang() -> None:
        for _ in range(2 * (LONGEST_STEP // LEASE) + 4):
            machine.go_on(LEASE / 2)
            bench.kernel.holding.renew()
        assert claimed(other) == [run_id]

    system.before.append(hang)
    with pytest.raises(LeaseLost):
        bench.kernel.execute(LOOK_UP, run_id)
    (line,) = [record.message for record in caplog.records if "hangs" in record.message]
    assert line.startswith(f"Run {run_id} has been in one step for 0:15:00: its call hangs")


def test_the_lease_of_an_effect_covers_its_call_and_no_more(bench: Bench, system: FakeSystem, machine: Machine) -> None:
    run_id, other = bench.open(SEND_ONE), Bench(bench.record, system, owner="worker-2")

    def send() -> None:
        for _ in range(20):
            machine.go_on(LEASE / 10)
            bench.kernel.holding.renew()
        assert claimed(other) == [run_id]

    system.before.append(send)
    with pytest.raises(LeaseLost):
        bench.kernel.execute(SEND_ONE, run_id)


def test_leases_are_renewed_by_a_thread_of_the_worker(bench: Bench, system: FakeSystem, machine: Machine) -> None:
    run_id = bench.open(LOOK_UP)
    kernel = Kernel(bench.record, bench.runs, bench._bind, owner="w", renew_every=timedelta(milliseconds=5))
    system.before.append(lambda: wait_for_renewal(bench.record, run_id, machine))
    kernel.execute(LOOK_UP, run_id)
    assert bench.run(run_id).state is RunState.DONE


def wait_for_renewal(record: Record, run_id: str, machine: Machine) -> None:
    lapses = select(run.c.until_steady).where(run.c.run_id == run_id)
    with record.store.read() as tx:
        before = tx.execute(lapses).scalar_one()
    machine.go_on(LEASE / 2)
    for _ in range(100_000):
        with record.store.read() as tx:
            if tx.execute(lapses).scalar_one() == before + LEASE / 2 // TICK:
                return
    pytest.fail("the lease is not renewed")


@pytest.mark.parametrize("jump", [-timedelta(minutes=10), -DAY])
def test_a_clock_that_is_set_back_keeps_nobody_waiting(
    bench: Bench, system: FakeSystem, machine: Machine, jump: timedelta
) -> None:
    assert claimed(bench) == []  # so the worker knows what time it was
    system.before.append(Unavailable("down", no_effect=True))
    postponed = bench.open(SEND_ONE)
    with pytest.raises(RunPostponed):
        bench.kernel.execute(SEND_ONE, postponed)
    waits = bench.run(postponed).due_at - machine.wall.now
    new, promised = bench.open(SEND_ONE), bench.open(SEND_ONE, due_at=machine.wall.now)
    machine.wall.now += jump
    assert claimed(bench) == [new]
    machine.go_on(waits)
    assert claimed(bench) == [postponed]
    machine.wall.now -= jump
    assert claimed(bench) == [promised]


def test_all_processes_of_this_machine_read_the_same_clock() -> None:
    here = steady(utc_now)
    told = "from orchestrator.record.clock import *; c = steady(utc_now); print(c.name, c.read())"
    before = here.read()
    name, reading = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, check=True
    ).stdout.split()
    assert name == here.name
    assert before < int(reading) < here.read()
    assert here() >= timedelta(microseconds=before)
    assert here.after(DAY) - here.read() <= DAY // TICK
