"""Commits together what several threads have ready: one transaction, and one wait for the disk, for all of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Lock
from typing import Any, Generic, TypeVar, cast

from sqlalchemy import Connection

T = TypeVar("T")


class _Entry(Generic[T]):
    """A change that waits to be committed, and what came of it."""

    def __init__(self, change: Callable[[Connection], T]) -> None:
        self.change = change
        self.done = False
        self.turn = Lock()
        """Held by nobody once the change is done, or once its thread is to commit what waits."""
        self.turn.acquire()
        self._answer: T | None = None
        self._error: Exception | None = None

    def succeed(self, answer: T) -> None:
        self._answer, self.done = answer, True

    def fail(self, error: Exception) -> None:
        self._error, self.done = error, True

    def outcome(self) -> T:
        if self._error is not None:
            raise self._error
        return cast("T", self._answer)


class GroupCommit:
    """Makes changes durable. While one thread commits, the changes of others gather, and go together next.

    One that fails is in nobody's way: nothing of its transaction is kept then, and each change gets one of its own.

    Args:
        write: Opens a transaction that is durable when the block ends, and undone if it raises.
    """

    def __init__(self, write: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._write = write
        self._guard = Lock()
        self._waiting: list[_Entry[Any]] = []
        self._is_led = False
        """Whether a thread commits, or is about to."""

    def commit(self, change: Callable[[Connection], T]) -> T:
        """Make a change; when this returns, it is durable.

        Args:
            change: Made within a transaction; made again if that was undone.

        Returns:
            What the change returned.

        Raises:
            Exception: What the change, or its commit, raised. It was undone.
        """
        mine = _Entry(change)
        with self._guard:
            self._waiting.append(mine)
            leads, self._is_led = not self._is_led, True
        if leads:
            self._lead()
            return mine.outcome()
        try:
            mine.turn.acquire()
        except BaseException:  # a signal: but if it is this thread's turn to lead, others wait for it
            mine.turn.acquire()
            self._lead_unless_done(mine)
            raise
        self._lead_unless_done(mine)
        return mine.outcome()

    def _lead_unless_done(self, mine: _Entry[Any]) -> None:
        if not mine.done:
            self._lead()

    def _lead(self) -> None:
        """Commit what waits, and hand the lead over to who came meanwhile. The leader's own change is the first."""
        with self._guard:
            group, self._waiting = self._waiting, []
        try:
            if len(group) == 1 or not self._commit_all(group):
                self._commit_each(group)
        finally:
            with self._guard:
                self._waiting[:0] = [entry for entry in group[1:] if not entry.done]
                self._is_led = bool(self._waiting)
                told = [entry for entry in group if entry.done] + self._waiting[:1]
            for entry in told:
                entry.turn.release()

    def _commit_all(self, group: list[_Entry[Any]]) -> bool:
        try:
            with self._write() as tx:
                answers = [entry.change(tx) for entry in group]
        except Exception:  # noqa: BLE001 - whose it is comes out when each is committed alone
            return False
        for entry, answer in zip(group, answers, strict=True):
            entry.succeed(answer)
        return True

    def _commit_each(self, group: list[_Entry[Any]]) -> None:
        for entry in group:
            try:
                with self._write() as tx:
                    answer = entry.change(tx)
            except Exception as exc:  # noqa: BLE001 - raised again in the thread that it belongs to
                entry.fail(exc)
            else:
                entry.succeed(answer)
