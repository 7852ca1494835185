from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from pathlib import Path

import pytest

from orchestrator.record.pen import Pen

ROUNDS = 20
HOLDER = """
import sys
from pathlib import Path
from orchestrator.record.pen import Pen
pen, order = Pen(Path(sys.argv[1])), Path(sys.argv[2])
for _ in sys.stdin:
    with pen.held(), order.open("a") as file:
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


def test_processes_take_turns_however_soon_one_wants_the_pen_again(tmp_path: Path) -> None:
    database, order = tmp_path / "record.db", tmp_path / "order"
    pen = Pen(database)
    with another_process(tmp_path) as other:
        for _ in range(ROUNDS):
            with pen.held():
                tell(other)
                wait_until_somebody_waits(database)
            with pen.held(), order.open("a") as file:
                file.write("us ")
            wait_for(other)
    assert order.read_text().split() == ["other", "us"] * ROUNDS


def test_an_error_lets_go_of_the_pen(tmp_path: Path) -> None:
    pen = Pen(tmp_path / "record.db")
    with pytest.raises(KeyError), pen.held():
        raise KeyError
    with pen.held():
        pass
