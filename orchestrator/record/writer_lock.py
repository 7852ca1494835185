"""The writer lock: its holder is the only one who writes to an SQLite database.

SQLite's own wait sleeps and tries again, and so does a lock file of most libraries: a busy process can keep another one
out for seconds. Here the operating system wakes who waits, and processes take turns: one that releases the lock and
wants it again stands behind one that waits already.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from threading import Lock

from sqlalchemy.exc import OperationalError

from orchestrator.private_files import FILE_MODE


class WriterLock:
    """A lock among the threads and processes that write to one database.

    Args:
        database: The database; the lock's files lie beside it.
    """

    def __init__(self, database: Path) -> None:
        self._among_threads = Lock()
        self._turn = f"{database}.turn"
        self._file = f"{database}.lock"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock. Not twice at once by the same thread: it would wait for itself."""
        with self._among_threads:
            with _locked(self._turn):  # whose turn it is waits here for the lock, and nobody overtakes
                lock = _lock(self._file)
            try:
                yield
            finally:
                os.close(lock)


@contextmanager
def _locked(path: str) -> Iterator[None]:
    descriptor = _lock(path)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(path: str) -> int:
    """Open a file and lock it; to close it is to unlock it. Opened each time, it is shared with no fork.

    Raises:
        OperationalError: The system does not give it now: no free descriptor, a full disk, a file of somebody else's.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            flock(descriptor, LOCK_EX)
        except BaseException:
            os.close(descriptor)
            raise
    except OSError as exc:
        raise OperationalError("take the writer lock", {}, exc) from exc
    return descriptor
