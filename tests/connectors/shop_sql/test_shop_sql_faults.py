from __future__ import annotations

import inspect
import socket
import sqlite3
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import exc

from orchestrator.errors import AccessDenied, ConnectorError, RateLimited, Rejected, Unavailable
from orchestrator.sandbox import shop
from orchestrator_connectors.shop_sql import ShopSqlOrders, ShopSqlSettings, _refusal

ADDRESS = "anna.berg@example.com"
QUERY = "SELECT 1 WHERE :email <> ''"
ENDLESS = """\
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
SELECT count(*) FROM n, orders WHERE :email <> ''
"""


def connect(url: str, query: str = QUERY, **changes: object) -> ShopSqlOrders:
    return ShopSqlOrders(ShopSqlSettings.model_validate({"url": url, "query": query} | changes))


def raised_by(call: Callable[[], object]) -> ConnectorError:
    with pytest.raises(ConnectorError) as caught:
        call()
    error = caught.value
    assert error.no_effect, "reading changes nothing"
    assert error.__cause__ is not None
    printed = "".join(traceback.format_exception(error))
    assert "s3cret" not in printed
    assert ADDRESS not in printed
    return error


def ask(url: str, query: str = QUERY, **changes: object) -> ConnectorError:
    orders = connect(url, query, **changes)
    return raised_by(lambda: orders.purchases_of(ADDRESS))


@pytest.mark.parametrize("query", ["SELECT :email FROM nowhere", "SELEC :email", "SELECT nothing WHERE :email <> ''"])
def test_a_wrong_query_is_rejected(query: str) -> None:
    assert type(ask("sqlite://", query)) is Rejected


def test_a_database_file_that_is_missing_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    assert type(ask(f"sqlite:///file:{path}?mode=ro&uri=true")) is Unavailable
    assert not path.exists()


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    path.write_bytes(b"s3cret " * 1000)
    assert type(ask(f"sqlite:///{path}", "SELECT :email FROM orders")) is Unavailable


def test_a_locked_database_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    made = shop.create_shop(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        assert type(ask(f"{made.url}&timeout=0.1", made.query)) is Unavailable


def test_an_address_that_no_database_can_hold_is_rejected() -> None:
    orders = connect("sqlite://")
    with pytest.raises(Rejected):
        orders.purchases_of("\udcff@example.com")


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert type(ask(f"postgresql+psycopg://user:s3cret@127.0.0.1:{port}/shop")) is Unavailable


def test_a_server_that_never_answers_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"postgresql+psycopg://user:s3cret@127.0.0.1:{server.getsockname()[1]}/shop"
        began = time.monotonic()
        raised = ask(url, timeout_seconds=0.5)
        assert type(raised) is Unavailable
        assert "within 0.5 s" in str(raised)
        assert time.monotonic() - began < 3


def test_a_query_that_takes_too_long_is_stopped_in_the_database(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    made = shop.create_shop(path)
    assert type(ask(made.url, ENDLESS, timeout_seconds=0.5)) is Unavailable
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as writer:
        writer.execute("BEGIN EXCLUSIVE")  # waits until nobody reads any more


UNAVAILABLE = """
DBAPIError DatabaseError DisconnectionError InterfaceError InternalError InvalidatePoolError OperationalError
TimeoutError
"""
REJECTED = """
AmbiguousColumnError AmbiguousForeignKeysError ArgumentError AwaitRequired CircularDependencyError CompileError
ConstraintColumnNotFoundError DataError DuplicateColumnError IdentifierError IllegalStateChangeError IntegrityError
InvalidRequestError MissingGreenlet MultipleResultsFound NoDBAPILoaded NoForeignKeysError NoInspectionAvailable
NoReferenceError NoReferencedColumnError NoReferencedTableError NoResultFound NoSuchColumnError NoSuchModuleError
NoSuchTableError NotSupportedError ObjectNotExecutableError PendingRollbackError ProgrammingError
ResourceClosedError SQLAlchemyError StatementError UnboundExecutionError UnreflectableTableError
UnsupportedCompilationError
"""
NEVER = {"EmulatedDBAPIException"}
"""Stands for a driver's own error, and comes wrapped in a DBAPIError."""

MAPPED = dict.fromkeys(UNAVAILABLE.split(), Unavailable) | dict.fromkeys(REJECTED.split(), Rejected)
FOUND: dict[str, Any] = {
    name: kind
    for name, kind in vars(exc).items()
    if inspect.isclass(kind) and issubclass(kind, Exception) and not issubclass(kind, Warning)
}


def made(name: str, driver_error: Exception) -> Any:
    kind = FOUND[name]
    return kind("SELECT", {}, driver_error) if issubclass(kind, exc.DBAPIError) else kind.__new__(kind)


def test_no_exception_of_sqlalchemy_is_forgotten() -> None:
    assert set(FOUND) - set(MAPPED) - NEVER == set()


@pytest.mark.parametrize("name", sorted(set(FOUND) & set(MAPPED)))
def test_every_exception_of_sqlalchemy_is_told_by_what_happens_next(name: str) -> None:
    told = _refusal(made(name, Exception("whatever")), "the shop's database")
    assert type(told) is MAPPED[name]
    assert told.no_effect
    assert name in str(told)


class DriverError(Exception):
    def __init__(self, message: str = "", **codes: object) -> None:
        super().__init__(message)
        vars(self).update(codes)


@pytest.mark.parametrize(
    ("name", "driver_error"),
    [
        ("OperationalError", DriverError('connection failed: FATAL:  password authentication failed for user "x"')),
        ("OperationalError", DriverError('connection failed: FATAL:  role "x" does not exist')),
        ("OperationalError", DriverError('connection failed: FATAL:  role "x" is not permitted to log in')),
        ("OperationalError", DriverError('connection failed: FATAL:  no pg_hba.conf entry for host "10.0.0.1"')),
        ("OperationalError", DriverError("connection failed: fe_sendauth: no password supplied")),
        ("OperationalError", DriverError('connection failed: FATAL:  database "shopp" does not exist')),
        ("OperationalError", DriverError("server does not support SSL, but SSL was required")),
        ("OperationalError", DriverError("(1049, \"Unknown database 'shopp'\")")),
        ("OperationalError", DriverError("(1045, \"Access denied for user 'x'@'localhost'\")")),
        ("InterfaceError", DriverError("('28000', \"[28000] Login failed for user 'x'.\")")),
        ("DatabaseError", DriverError("ORA-01017: invalid username/password; logon denied")),
        ("ProgrammingError", DriverError("keine Berechtigung für Tabelle orders", sqlstate="42501")),
        ("ProgrammingError", DriverError("keine Berechtigung für Tabelle orders", pgcode="42501")),
    ],
)
def test_a_wrong_credential_is_told_apart_whatever_the_driver_calls_it(name: str, driver_error: DriverError) -> None:
    assert type(_refusal(made(name, driver_error), "the shop's database")) is AccessDenied


@pytest.mark.parametrize(
    "driver_error",
    [
        DriverError("Zu viele Verbindungen", sqlstate="53300"),
        DriverError("connection failed: FATAL:  sorry, too many clients already"),
        DriverError("FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute"),
        DriverError('(1040, "Too many connections")'),
    ],
)
def test_a_database_without_a_free_connection_asks_to_wait(driver_error: DriverError) -> None:
    told = _refusal(made("OperationalError", driver_error), "the shop's database")
    assert type(told) is RateLimited
    assert "url" in str(told)


@pytest.mark.parametrize(
    ("driver_error", "named"),
    [
        (DriverError('relation "ordres" does not exist\nLINE 1: ...', sqlstate="42P01"), " at ordres "),
        (DriverError("column orders.emial does not exist\nLINE 1: ...", sqlstate="42703"), " at orders.emial "),
        (DriverError('missing FROM-clause entry for table "o"', sqlstate="42P01"), " at o "),
        (DriverError('syntax error at or near "SELEC"', sqlstate="42601"), " at SELEC "),
        (DriverError(f'invalid input syntax for type integer: "{ADDRESS}"', sqlstate="22P02"), "query (Pro"),
    ],
)
def test_what_a_wrong_query_stumbles_over_is_named_and_no_value(driver_error: DriverError, named: str) -> None:
    said = str(_refusal(made("ProgrammingError", driver_error), "the shop's database"))
    assert named in said
    assert ADDRESS not in said
