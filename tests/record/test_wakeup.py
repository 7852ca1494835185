from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.errors import AccessDenied, RunParked, RunPostponed, Unavailable
from orchestrator.kernel.runs import LEASE
from orchestrator.record.record import Record
from orchestrator.record.store import Store
from orchestrator.record.wakeup import Woken, wake_on_commit
from tests.support.clock import HandClock
from tests.support.kernel_bench import ANN, Bench, FakeSystem, process, send_one
from tests.support.postgres import PostgresServer

SEND_ONE = process(send_one)
LONG = 60.0
"""Seconds that nobody waits for if a wake-up comes."""
WAKE_ONCE = "import sys; from orchestrator.record.store import Store; Store(sys.argv[1]).wakeup.wake()"


@pytest.fixture
def other(reopen: Callable[[], Record]) -> Store:
    """The same store as another process has it, in which somebody waits for work."""
    store = reopen().store
    assert store.wakeup.wait(0)  # the first look comes at once
    assert not store.wakeup.wait(0)
    return store


def test_who_waits_is_woken_by_whoever_makes_a_run_ready(record: Record, other: Store, system: FakeSystem) -> None:
    bench = Bench(record, system)
    run_id = bench.open(SEND_ONE)
    assert other.wakeup.wait(LONG)
    system.before.append(AccessDenied("the password is wrong"))
    with pytest.raises(RunParked):
        bench.kernel.execute(SEND_ONE, run_id)
    bench.runs.resume(run_id, ANN)
    assert other.wakeup.wait(LONG)
    system.before.append(Unavailable("down", no_effect=True))
    with pytest.raises(RunPostponed):
        bench.kernel.execute(SEND_ONE, run_id)
    assert other.wakeup.wait(LONG)


def test_nobody_is_woken_for_what_was_undone_or_is_reserved(record: Record, other: Store) -> None:
    with suppress(KeyError), record.store.write() as tx:
        wake_on_commit(tx)
        raise KeyError
    Bench(record, FakeSystem()).open(SEND_ONE, reserved=True)
    assert not other.wakeup.wait(0)


def test_another_process_is_woken(record_url: str, other: Store) -> None:
    subprocess.run([sys.executable, "-c", WAKE_ONCE, record_url], check=True)
    assert other.wakeup.wait(LONG)


def test_who_waits_is_woken_while_waiting(record: Record, other: Store) -> None:
    with ThreadPoolExecutor(2) as pool:
        for wake in (record.store.wakeup.wake, other.wakeup.wake, other.wakeup.wake_here):
            waiting = pool.submit(other.wakeup.wait, LONG)
            wake()
            assert waiting.result(LONG)


def test_many_wake_ups_are_one(record: Record, other: Store) -> None:
    for _ in range(3):
        record.store.wakeup.wake()
    assert other.wakeup.wait(LONG)
    while other.wakeup.wait(0.05):
        pass  # PostgreSQL may have brought one of them later
    assert not other.wakeup.wait(0)


def test_a_store_that_was_closed_wakes_and_waits_again(record: Record, other: Store) -> None:
    other.close()
    record.store.wakeup.wake()
    assert other.wakeup.wait(0)
    record.store.close()
    record.store.wakeup.wake()
    assert other.wakeup.wait(LONG)


@pytest.fixture
def third(reopen: Callable[[], Record]) -> Store:
    """One more process in which somebody waits."""
    store = reopen().store
    store.wakeup.wait(0)
    return store


@pytest.mark.parametrize("record_url", ["sqlite"], indirect=True)
def test_one_of_those_who_wait_is_woken_and_can_pass_it_on(record: Record, other: Store, third: Store) -> None:
    for _ in range(5):
        record.store.wakeup.wake()
        woken = {store.wakeup.wait(0): store for store in (other, third)}
        assert woken.keys() == {Woken.NOBODY, Woken.THIS_ONE}
        woken[Woken.THIS_ONE].wakeup.pass_on()
        assert woken[Woken.THIS_ONE].wakeup.wait(0) is Woken.NOBODY
        assert woken[Woken.NOBODY].wakeup.wait(0) is Woken.EVERYBODY


@pytest.mark.parametrize("record_url", ["sqlite"], indirect=True)
def test_who_makes_a_run_ready_and_waits_itself_is_the_one(other: Store, third: Store) -> None:
    other.wakeup.wake()
    assert (other.wakeup.wait(0), third.wakeup.wait(0)) == (Woken.THIS_ONE, Woken.NOBODY)


@pytest.mark.parametrize("record_url", ["sqlite"], indirect=True)
def test_who_leaves_passes_on_what_it_was_woken_for(record: Record, other: Store, reopen: Callable[[], Record]) -> None:
    for waking in (record.store, other):
        waking.wakeup.wake()  # another process, or the one itself that leaves
        staying = reopen().store
        staying.wakeup.wait(0)
        other.wakeup.close()
        assert staying.wakeup.wait(0) is Woken.EVERYBODY
        staying.close()
        other.wakeup.wait(0)


@pytest.mark.parametrize("record_url", ["postgresql"], indirect=True)
@pytest.mark.postgres
def test_on_postgresql_everybody_is_woken(record: Record, other: Store, third: Store) -> None:
    record.store.wakeup.wake()
    assert [store.wakeup.wait(LONG) for store in (other, third)] == [Woken.EVERYBODY] * 2


@pytest.mark.parametrize("record_url", ["sqlite"], indirect=True)
def test_those_who_died_are_forgotten(record: Record, tmp_path: Path) -> None:
    dead = tmp_path / "record.db.wake-dead"
    os.mkfifo(dead)
    record.store.wakeup.wake()
    assert not dead.exists()
    store = Store(f"sqlite:///{tmp_path}/record.db")
    store.wakeup.wait(0)
    assert len(list(tmp_path.glob("record.db.wake-*"))) == 1
    store.close()
    assert list(tmp_path.glob("record.db.wake-*")) == []


@pytest.mark.parametrize("record_url", ["sqlite"], indirect=True)
def test_nobody_reads_what_was_rung_for_long(record: Record, other: Store) -> None:
    for _ in range(70_000):  # more than a pipe holds
        other.wakeup.wake_here()
    assert other.wakeup.wait(0)
    assert not other.wakeup.wait(0)


def test_a_database_may_lie_deep_in_the_file_system(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a folder with a long name [1]"] * 6)
    waiting, waking = Store(f"sqlite:///{deep}/record.db"), Store(f"sqlite:///{deep}/record.db")
    waiting.wakeup.wait(0)
    waking.wakeup.wake()
    assert waiting.wakeup.wait(LONG)
    for store in (waiting, waking):
        store.close()


@pytest.fixture
def crashing_server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.mark.postgres
def test_a_database_that_was_away_is_listened_to_again(crashing_server: PostgresServer) -> None:
    store = Store(crashing_server.new_database())
    store.wakeup.wait(0)
    crashing_server.crash()
    assert store.wakeup.wait(LONG)  # the line broke
    while store.wakeup.wait(0):
        pass  # and cannot be opened again yet
    store.wakeup.wake()  # reaches this process
    assert store.wakeup.wait(0)
    crashing_server.start()
    assert store.wakeup.wait(0)  # opened again: who knows what was missed
    assert not store.wakeup.wait(0)
    store.wakeup.wake()
    assert store.wakeup.wait(LONG)
    store.close()


def next_due(bench: Bench) -> datetime | None:
    return bench.runs.claim("nobody", limit=0).next_due


def test_the_moment_of_the_next_run_is_known(bench: Bench, clock: HandClock, system: FakeSystem) -> None:
    assert next_due(bench) is None
    start = clock()
    bench.open(SEND_ONE, run_id="r-reserved", reserved=True)
    assert next_due(bench) == start + LEASE
    clock.advance(seconds=1)
    bench.open(SEND_ONE, run_id="r-now")
    assert next_due(bench) == start + LEASE
    system.before.append(Unavailable("down", no_effect=True))
    with pytest.raises(RunPostponed) as caught:
        bench.kernel.execute(SEND_ONE, "r-now")
    assert next_due(bench) == caught.value.due_at < start + LEASE
    bench.runs.acquire("r-now", "worker-1", process="sample")
    clock.now = start + LEASE + timedelta(seconds=1)
    assert next_due(bench) == start + LEASE + timedelta(seconds=1)
