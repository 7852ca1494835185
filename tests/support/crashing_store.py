"""A store whose process dies at one of its commits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from sqlalchemy import Connection

from orchestrator.record.store import Store


class Crash(Exception):
    """The process dies."""


class CrashingStore:
    """A store whose process dies at one of its commits."""

    def __init__(self, store: Store, *, at: int, committed: bool) -> None:
        self._store = store
        self._left = at
        self._committed = committed

    def read(self) -> AbstractContextManager[Connection]:
        return self._store.read()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        self._left -= 1
        with self._store.write() as tx:
            yield tx
            if not self._left and not self._committed:
                raise Crash
        if not self._left:
            raise Crash
