"""The database behind the record: one durable write transaction at a time on SQLite, ordinary ones on PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    InternalError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from orchestrator.errors import ConfigurationError, RecordError
from orchestrator.private_files import close_to_others, private_file, private_folder
from orchestrator.record.group_commit import GroupCommit
from orchestrator.record.migrations import bring_up_to_date
from orchestrator.record.wakeup import Wakeup, reasons_to_wake
from orchestrator.record.writer_lock import WriterLock

BUSY_TIMEOUT_SECONDS = 30.0
POOL_SIZE = 10
POOL_OVERFLOW = 5
"""A process holds at most so many connections together, and one more to be woken by."""
PATIENCE: Mapping[str, Any] = MappingProxyType(
    {
        "connect_timeout": 10,
        # A server that went away without a word is noticed in half a minute, not in two hours (libpq's parameters).
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 4,
        "tcp_user_timeout": 30_000,
        # A process that was stopped in the middle of a transaction does not hold its rows for ever.
        "options": "-c idle_in_transaction_session_timeout=60s -c lock_timeout=30s",
    }
)
"""How long is waited for PostgreSQL; what the URL says instead counts."""
UNWRITABLE = (OperationalError, InterfaceError, InternalError, PoolTimeout)
"""The database is away, busy, or not to be written to now: nothing is known to be wrong with what was to be written."""
CONFLICTS = frozenset({"40001", "40P01"})
"""PostgreSQL, appendix A: serialization_failure, deadlock_detected. The transaction was undone, and may be repeated."""
NOTHING_HERE = (
    "this command looks at a record, and makes none: start the service first (orchestrator up), or name the "
    "configuration of the one that runs with --config or $ORCHESTRATOR_CONFIG"
)
ATTEMPTS = 5
_WITHOUT_WAITING = text("SET LOCAL synchronous_commit = off")
T = TypeVar("T")


def repeated(transaction: Callable[[], T]) -> T:
    """Run a whole transaction, and again if PostgreSQL undid it because it was in another one's way."""
    for _ in range(ATTEMPTS - 1):
        try:
            return transaction()
        except DBAPIError as exc:
            if getattr(exc.orig, "sqlstate", None) not in CONFLICTS:
                raise
    return transaction()


class Store:
    """One database, its schema brought up to date on opening.

    Args:
        url: An SQLAlchemy URL: ``sqlite:///path`` or ``postgresql+psycopg://...``.
        create: False if the database must hold a record already.

    Raises:
        ConfigurationError: The URL names no database that can be opened, or it holds no record.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        if not create:
            _refuse_missing_file(url)
        self._engine = _engine(url)
        self._reading = self._engine.execution_options(**self._snapshot())  # with the same connections
        self.wakeup = Wakeup(self._engine)
        """Wakes who waits for work, and waits for it."""
        self._one_writer = _one_writer(self._engine.url)
        self._together = GroupCommit(self.write)
        try:
            with _explained(), self.write() as tx:
                if not create:
                    _refuse_empty(tx)
                bring_up_to_date(tx)
        except BaseException:
            self.close()
            raise

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._engine.dialect.name

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Connection]:
        """Open a transaction that is durable when the block ends, and undone if it raises.

        Args:
            durable: False if nobody needs to wait for the disk: everybody sees it when the block ends, but a power cut
                may undo it, as long as nothing durable was written after it.
        """
        # The writer lock comes first: a new connection may switch a new database to a log, and waits for nobody.
        with self._one_writer(), self._engine.connect() as tx, nullcontext() if durable else _hurrying(tx), tx.begin():
            reasons = reasons_to_wake(tx)
            if not durable and self.dialect == "postgresql":
                tx.execute(_WITHOUT_WAITING)
            yield tx
        if reasons:
            self.wakeup.wake()

    def commit(self, change: Callable[[Connection], T]) -> T:
        """Make a change durable; on SQLite, together with what other threads have ready meanwhile.

        Args:
            change: Made within a transaction; made again if that was undone.

        Returns:
            What it returned.
        """
        if self.dialect == "sqlite":
            return self._together.commit(change)
        return repeated(lambda: self._commit_alone(change))

    def _commit_alone(self, change: Callable[[Connection], T]) -> T:
        with self.write() as tx:
            return change(tx)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads, from one snapshot of the database."""
        with self._reading.begin() as tx:
            yield tx

    def close(self) -> None:
        """Close all connections."""
        self.wakeup.close()
        self._engine.dispose()

    def _snapshot(self) -> dict[str, Any]:
        if self.dialect == "sqlite":
            return {"begin": "BEGIN"}
        return {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


def _refuse_missing_file(url: str) -> None:
    """To open an SQLite database is to make it."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
        raise ConfigurationError(f"[store] url: there is no {parsed.database}; {NOTHING_HERE}")


def _refuse_empty(tx: Connection) -> None:
    if not inspect(tx).has_table("alembic_version"):
        where = tx.engine.url.render_as_string(hide_password=True)
        raise ConfigurationError(f"[store] url: there is no record at {where}; {NOTHING_HERE}")


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return _sqlite_engine(parsed)
        return create_engine(
            parsed,
            connect_args={**PATIENCE, **parsed.query},
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            pool_pre_ping=True,
            hide_parameters=True,
        )
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as exc:
        raise ConfigurationError(
            "[store] url: no database can be opened with it; write sqlite:///data/orchestrator.db or "
            "postgresql+psycopg://USER@HOST/NAME (and install the extra 'postgresql')"
        ) from exc


def _sqlite_engine(url: URL) -> Engine:
    with _explained():
        _make_private(Path(url.database or ""))
    options = {"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False}
    # Nothing is left to be undone when a connection comes back: `write` and `read` end what they begin.
    engine = create_engine(
        url, connect_args=options, hide_parameters=True, pool_reset_on_return=None, pool_size=POOL_SIZE
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun below, not guessed by the driver
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        begin = connection.get_execution_options().get("begin", "BEGIN IMMEDIATE")
        try:
            connection.connection.cursor().execute(begin)  # it has no result that would have to be prepared
        except sqlite3.OperationalError as exc:
            raise OperationalError(begin, {}, exc) from exc

    return engine


def _make_private(database: Path) -> None:
    """Make the database, if it is not there, for this user alone: what SQLite adds to it gets the same mode."""
    private_folder(database.parent)
    private_file(database)
    for suffix in ("-wal", "-shm", ".lock", ".turn"):
        close_to_others(database.with_name(database.name + suffix))


@contextmanager
def _hurrying(connection: Connection) -> Iterator[None]:
    """Let SQLite not wait for the disk in the next transaction (sqlite.org/pragma.html#pragma_synchronous)."""
    if connection.dialect.name != "sqlite":
        yield
        return
    cursor = connection.connection.cursor()
    cursor.execute("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        cursor.execute("PRAGMA synchronous = FULL")


def _one_writer(url: URL) -> Callable[[], AbstractContextManager[None]]:
    """Return what keeps other writers out: SQLite has one at a time."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return nullcontext
    return WriterLock(Path(url.database).absolute()).held


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, OSError) as exc:
        raise RecordError(
            f"[store] url: the database does not open ({type(getattr(exc, 'orig', exc)).__name__}); "
            "check that it is running, that the path or host is right, and that this user may create tables"
        ) from exc
