"""Wakes workers: a run is taken up at once, whichever process or machine it was made ready on.

On SQLite, whoever waits has a named pipe beside the database, and whoever wakes writes a byte into one of them. One is
enough, and two would be in each other's way; what the woken one cannot take up, it passes on to the others. Unlike a
socket, a named pipe has no limit on the length of its path, and it cannot be opened for writing once its reader is
dead. On PostgreSQL, ``LISTEN`` and ``NOTIFY`` wake everybody, across machines.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from enum import IntEnum
from errno import ENXIO
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import TYPE_CHECKING, Any, Protocol
from weakref import finalize

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import DBAPIError

from orchestrator.private_files import FILE_MODE

if TYPE_CHECKING:
    import psycopg

CHANNEL = "orchestrator_work"
RETRY_SECONDS = 5.0
"""A line to the database that broke is opened again after so long."""
_REASONS = "reasons to wake workers"
_YOU, _ALL = b"1", b"*"
"""What is written into a pipe: that its reader alone is woken, or that everybody is."""


class Woken(IntEnum):
    """Who was woken."""

    NOBODY = 0
    EVERYBODY = 1
    THIS_ONE = 2
    """This process, and perhaps no other one: it passes on what it cannot take up."""


def wake_on_commit(tx: Connection) -> None:
    """Wake workers once this write transaction of the store is durable; if it is undone, nobody is woken."""
    if tx.dialect.name == "postgresql":
        tx.execute(select(func.pg_notify(CHANNEL, "")))
    else:
        tx.info[_REASONS].append("a run is ready")


def reasons_to_wake(tx: Connection) -> list[str]:
    """Begin to note why workers are to be woken once this transaction is durable."""
    reasons: list[str] = []
    tx.info[_REASONS] = reasons  # kept with a connection that transactions share, so it is put there by each
    return reasons


class Wakeup:
    """Wakes those who wait for work, in this process and in others on the same database.

    Args:
        engine: The database.
    """

    def __init__(self, engine: Engine) -> None:
        self._line: _Line = _Notifications(engine) if engine.dialect.name == "postgresql" else _Pipes(engine)
        self._here, self._bell = os.pipe()
        for end in (self._here, self._bell):
            os.set_blocking(end, False)
        # Not closed before the object goes: their numbers would ring at whatever is opened next.
        finalize(self, _close_both, self._here, self._bell)
        finalize(self, self._line.close)

    def wake(self) -> None:
        """Wake one who waits, in this process or another. Whoever cannot be reached looks by itself before long."""
        _ring(self._bell, _YOU)
        self._line.ring_one()

    def wake_here(self) -> None:
        """Wake who waits in this process."""
        _ring(self._bell, _ALL)

    def pass_on(self) -> None:
        """Wake those who wait in other processes: there is more than this one can take up."""
        self._line.ring_others()

    def wait(self, seconds: float) -> Woken:
        """Wait until somebody wakes; a wake-up since the last wait counts. One thread waits on it at a time.

        The first call returns at once, and so does one whose line to the database was lost: nobody knows who woke
        meanwhile.

        Args:
            seconds: The longest time to wait.

        Returns:
            Who was woken, as far as is known; nobody if the time is over.
        """
        if not self._line.is_open:
            if self._line.open():
                return Woken.EVERYBODY
            seconds = min(seconds, RETRY_SECONDS)
        with DefaultSelector() as selector:
            selector.register(self._here, EVENT_READ)
            if self._line.is_open:
                selector.register(self._line, EVENT_READ)
            woken = bool(selector.select(max(seconds, 0)))
        told = max(_heard(self._here), self._line.heard())
        return max(told, Woken(woken))  # a line that broke has nothing to tell

    def close(self) -> None:
        """Let go of the line to the database; the next wait opens it again. What nobody heard is passed on."""
        unheard = _heard(self._here)
        self._line.close()
        if unheard is Woken.THIS_ONE:
            self._line.ring_others()


class _Line(Protocol):
    """What reaches the other processes."""

    @property
    def is_open(self) -> bool: ...

    def open(self) -> bool: ...

    def fileno(self) -> int: ...

    def heard(self) -> Woken: ...

    def ring_one(self) -> None: ...

    def ring_others(self) -> None: ...

    def close(self) -> None: ...


class _Pipes:
    """Named pipes beside an SQLite database, one for each who waits."""

    def __init__(self, engine: Engine) -> None:
        self._database = Path(engine.url.database or "").absolute()
        self._mine: Path | None = None
        self._reader = -1

    @property
    def is_open(self) -> bool:
        return self._mine is not None

    def open(self) -> bool:
        name = f"{self._database.name}.wake-{secrets.token_hex(6)}"
        draft, pipe = self._database.with_name(f".{name}"), self._database.with_name(name)
        try:
            os.mkfifo(draft, FILE_MODE)
            # With a writer of its own, a reader never sees the end of its pipe.
            self._reader = os.open(draft, os.O_RDWR | os.O_NONBLOCK)
            draft.rename(pipe)  # only now: a pipe without a reader is taken for a dead one
        except OSError:  # the place is not there, or not ours
            return False
        self._mine = pipe
        return True

    def fileno(self) -> int:
        return self._reader

    def heard(self) -> Woken:
        return _heard(self._reader) if self._mine is not None else Woken.NOBODY

    def ring_one(self) -> None:
        if self._mine is None:  # else this process was woken already
            # Always the same one, as long as it is there: it has everything at hand still.
            any(_ring_pipe(pipe, _YOU) for pipe in sorted(self._others()))

    def ring_others(self) -> None:
        for pipe in self._others():
            _ring_pipe(pipe, _ALL)

    def close(self) -> None:
        if self._mine is not None:
            self._mine.unlink(missing_ok=True)  # from now on, nobody rings here
            unanswered = self.heard()
            os.close(self._reader)
            self._mine = None
            if unanswered is Woken.THIS_ONE:
                self.ring_others()

    def _others(self) -> list[Path]:
        with suppress(FileNotFoundError), os.scandir(self._database.parent) as files:
            begins, mine = f"{self._database.name}.wake-", str(self._mine)
            return [Path(file.path) for file in files if file.name.startswith(begins) and file.path != mine]
        return []


class _Notifications:
    """``LISTEN`` and ``NOTIFY`` of a PostgreSQL database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: psycopg.Connection[Any] | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def open(self) -> bool:
        import psycopg

        arguments, options = self._engine.dialect.create_connect_args(self._engine.url)
        # A connection of its own: it is kept for ever, so it must not be missing in the pool.
        try:
            self._connection = psycopg.connect(*arguments, **options, autocommit=True)
            self._connection.execute(f"LISTEN {CHANNEL}")
        except psycopg.Error:
            self.close()
            return False
        return True

    def fileno(self) -> int:
        assert self._connection is not None  # noqa: S101 - asked of an open line alone
        return self._connection.fileno()

    def heard(self) -> Woken:
        if self._connection is None:
            return Woken.NOBODY
        from psycopg import OperationalError

        try:
            # What libpq has seen already is enough: the server is not asked.
            self._connection.pgconn.consume_input()
            heard = Woken.NOBODY
            while self._connection.pgconn.notifies() is not None:
                heard = Woken.EVERYBODY
        except OperationalError:
            self.close()
            return Woken.EVERYBODY
        return heard

    def ring_others(self) -> None:
        """Do nothing: whoever was notified was not the only one."""

    def ring_one(self) -> None:
        with suppress(DBAPIError), self._engine.begin() as tx:
            tx.execute(select(func.pg_notify(CHANNEL, "")))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _close_both(*ends: int) -> None:
    for end in ends:
        os.close(end)


def _ring_pipe(pipe: Path, whom: bytes) -> bool:
    """Ring at a pipe; tell whether somebody reads there."""
    try:
        bell = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as exc:
        if exc.errno == ENXIO:  # its reader is dead
            pipe.unlink(missing_ok=True)
        return False
    try:
        _ring(bell, whom)
    except BrokenPipeError:
        return False
    finally:
        os.close(bell)
    return True


def _ring(bell: int, whom: bytes) -> None:
    with suppress(BlockingIOError):  # it was rung often enough
        os.write(bell, whom)


def _heard(end: int) -> Woken:
    heard = Woken.NOBODY
    with suppress(BlockingIOError):
        while rung := os.read(end, 4096):
            heard = max(heard, Woken.THIS_ONE if _YOU in rung else Woken.EVERYBODY)
    return heard
