from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, cast

import pytest
from sqlalchemy import Connection

from orchestrator.record.group_commit import GroupCommit

SECONDS = 30.0


class Disk:
    """Opens transactions, one after the other, and keeps what was committed in each; the first one is slow."""

    def __init__(self) -> None:
        self.committed: list[list[str]] = []
        self.is_busy = Event()
        self.goes_on = Event()
        self.problem: BaseException | None = None

    @contextmanager
    def write(self) -> Iterator[Connection]:
        written: list[str] = []
        yield cast("Connection", written)
        if not self.is_busy.is_set():
            self.is_busy.set()
            assert self.goes_on.wait(SECONDS)
        if self.problem is not None:
            raise self.problem
        self.committed.append(written)


def noting(name: str) -> Callable[[Connection], str]:
    def change(tx: Connection) -> str:
        cast("list[str]", tx).append(name)
        return f"noted {name}"

    return change


class Threads:
    """Threads that each commit one change, and what came of it."""

    def __init__(self, together: GroupCommit) -> None:
        self._together = together
        self._threads: list[Thread] = []
        self.outcomes: dict[str, object] = {}

    def commit(self, name: str, change: Callable[[Connection], Any]) -> None:
        def run() -> None:
            try:
                self.outcomes[name] = self._together.commit(change)
            except BaseException as exc:  # noqa: BLE001 - it is what is looked at
                self.outcomes[name] = exc

        self._threads.append(Thread(target=run, name=name))
        self._threads[-1].start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(SECONDS)
            assert not thread.is_alive()


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def together(disk: Disk) -> GroupCommit:
    return GroupCommit(disk.write)


@pytest.fixture
def threads(together: GroupCommit) -> Threads:
    return Threads(together)


def behind_the_first(
    disk: Disk, together: GroupCommit, threads: Threads, *changes: Callable[[Connection], Any]
) -> None:
    """Commit one change, and the others while the disk is busy with it."""
    threads.commit("first", noting("first"))
    assert disk.is_busy.wait(SECONDS)
    for number, change in enumerate(changes):
        threads.commit(f"other {number}", change)
        while len(together._waiting) <= number:  # they come in this order
            pass


def test_what_comes_while_the_disk_is_busy_is_committed_together(
    disk: Disk, together: GroupCommit, threads: Threads
) -> None:
    behind_the_first(disk, together, threads, noting("a"), noting("b"), noting("c"))
    disk.goes_on.set()
    threads.join()
    assert [sorted(written) for written in disk.committed] == [["first"], ["a", "b", "c"]]
    assert sorted(cast("dict[str, str]", threads.outcomes).values()) == ["noted a", "noted b", "noted c", "noted first"]


def test_a_change_that_fails_is_undone_alone(disk: Disk, together: GroupCommit, threads: Threads) -> None:
    def fails(tx: Connection) -> None:
        noting("half")(tx)
        raise LookupError("not mine")

    behind_the_first(disk, together, threads, noting("a"), fails, noting("b"))
    disk.goes_on.set()
    threads.join()
    assert sorted(written for group in disk.committed for written in group) == ["a", "b", "first"]
    assert [repr(each) for each in threads.outcomes.values() if isinstance(each, Exception)] == [
        "LookupError('not mine')"
    ]


def test_a_commit_that_fails_is_an_error_for_each(disk: Disk, together: GroupCommit, threads: Threads) -> None:
    behind_the_first(disk, together, threads, noting("a"), noting("b"))
    disk.problem = OSError("disk full")
    disk.goes_on.set()
    threads.join()
    assert disk.committed == []
    assert [str(each) for each in threads.outcomes.values()] == ["disk full"] * 3


def test_who_is_interrupted_leaves_the_lead_to_the_others(disk: Disk, together: GroupCommit, threads: Threads) -> None:
    def interrupted(tx: Connection) -> None:
        raise KeyboardInterrupt

    behind_the_first(disk, together, threads, interrupted, noting("a"), noting("b"))
    disk.goes_on.set()
    threads.join()
    assert sorted(written for group in disk.committed for written in group) == ["a", "b", "first"]
    assert isinstance(threads.outcomes["other 0"], KeyboardInterrupt)
    assert together.commit(noting("last")) == "noted last"
