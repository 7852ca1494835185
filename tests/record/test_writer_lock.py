from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from orchestrator.capabilities import Mailer, OutgoingMail
from orchestrator.kernel.runs import RunState
from orchestrator.record.record import open_record
from orchestrator.record.writer_lock import WriterLock
from tests.support.clock import HandClock
from tests.support.kernel_bench import Bench, Done, Errand, FakeSystem, process

ROUNDS = 20
HOLDER = """
import sys
from pathlib import Path
from orchestrator.record.writer_lock import WriterLock
lock, order = WriterLock(Path(sys.argv[1])), Path(sys.argv[2])
for _ in sys.stdin:
    with lock.held(), order.open("a") as file:
        file.write("other ")
    print("done", flush=True)
"""


@contextmanager
def another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, str(folder / "record.db"), str(folder / "order")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def wait_for(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"


def wait_until_somebody_waits(database: Path) -> None:
    turn = os.open(f"{database}.turn", os.O_RDWR)
    try:
        while True:
            flock(turn, LOCK_EX | LOCK_NB)
            flock(turn, LOCK_UN)
    except BlockingIOError:
        os.close(turn)


def test_processes_take_turns_however_soon_one_wants_the_lock_again(tmp_path: Path) -> None:
    database, order = tmp_path / "record.db", tmp_path / "order"
    lock = WriterLock(database)
    with another_process(tmp_path) as other:
        for _ in range(ROUNDS):
            with lock.held():
                tell(other)
                wait_until_somebody_waits(database)
            with lock.held(), order.open("a") as file:
                file.write("us ")
            wait_for(other)
    assert order.read_text().split() == ["other", "us"] * ROUNDS


def test_an_error_lets_go_of_the_lock(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path / "record.db")
    with pytest.raises(KeyError), lock.held():
        raise KeyError
    with lock.held():
        pass


def test_a_lock_that_cannot_be_had_now_is_a_store_that_cannot_be_written_now(tmp_path: Path) -> None:
    (tmp_path / "record.db.lock").mkdir()
    with pytest.raises(OperationalError, match="IsADirectoryError"), WriterLock(tmp_path / "record.db").held():
        pass
    (tmp_path / "record.db.lock").rmdir()
    with WriterLock(tmp_path / "record.db").held():
        pass


def test_a_run_whose_lock_cannot_be_had_for_a_moment_goes_on_from_its_record(tmp_path: Path) -> None:
    clock, system = HandClock(), FakeSystem()
    record = open_record(f"sqlite:///{tmp_path}/record.db", tmp_path / "key", clock)
    lock, aside = tmp_path / "record.db.lock", tmp_path / "aside"

    def take_away() -> None:
        lock.rename(aside)
        lock.mkdir()

    def send_two(errand: Errand, *, mailer: Mailer) -> Done:
        first = mailer.send(OutgoingMail(to=errand.email, subject="One", text="One"))
        try:
            second = mailer.send(OutgoingMail(to=errand.email, subject="Two", text="Two"))
        finally:
            if lock.is_dir():
                lock.rmdir()
                aside.rename(lock)
        return Done(references=(first.reference, second.reference))

    bench, definition = Bench(record, system), process(send_two)
    run_id = bench.open(definition)
    system.after.append(take_away)
    with pytest.raises(OperationalError):
        bench.kernel.execute(definition, run_id)
    assert bench.run(run_id).state is RunState.RUNNING
    clock.advance(hours=1)
    bench.kernel.execute(definition, run_id)
    assert (bench.run(run_id).state, list(system.applied.values())) == (RunState.DONE, [1, 1])
    record.store.close()
