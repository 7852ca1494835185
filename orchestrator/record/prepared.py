"""Statements that are compiled once and then go straight to the database's driver.

SQLAlchemy's way through its layers takes several times as long as SQLite takes to execute a small statement. For the
two dozen statements that each run needs, that was half of what the orchestrator adds to a plain handler. They are still
written with SQLAlchemy and executed in its transactions; what the driver raises comes out as SQLAlchemy's errors.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, cast

from sqlalchemy import ClauseElement, Connection, Dialect
from sqlalchemy.exc import DBAPIError

Values = Mapping[str, Any]
_Arguments = Callable[[Values], Any]


class Prepared:
    """A statement with named parameters, whose values are of types that the driver takes as they are.

    Args:
        statement: A statement of SQLAlchemy, without expanding parameters. An INSERT or UPDATE without columns of its
            own sets those that values are given for.
    """

    def __init__(self, statement: ClauseElement) -> None:
        self._compiled = cache(lambda dialect, names: _compiled(statement, dialect, names))
        self._row: Callable[[tuple[str, ...]], Any] = cache(_row_class)

    def __call__(self, tx: Connection, values: Values) -> int:
        """Execute it; return how many rows it changed."""
        return int(self._execute(tx, values).rowcount)

    def many(self, tx: Connection, rows: Sequence[Values]) -> None:
        """Execute it once for each of the rows, which have the same names."""
        if rows:
            statement, arguments = self._compiled(tx.dialect, tuple(rows[0]))
            with _Errors(tx.dialect, statement):
                tx.connection.cursor().executemany(statement, [arguments(row) for row in rows])

    def rows(self, tx: Connection, values: Values) -> list[Any]:
        """Execute it; return the rows that it gives, with their columns as attributes."""
        cursor = self._execute(tx, values)
        row = self._row(tuple(column[0] for column in cursor.description))
        with _Errors(tx.dialect, ""):
            return [row._make(each) for each in cursor.fetchall()]

    def row(self, tx: Connection, values: Values) -> Any:
        """Execute it; return the only row that it gives, or None."""
        found = self.rows(tx, values)
        return found[0] if found else None

    def _execute(self, tx: Connection, values: Values) -> Any:
        statement, arguments = self._compiled(tx.dialect, tuple(values))
        cursor = tx.connection.cursor()
        with _Errors(tx.dialect, statement):
            cursor.execute(statement, arguments(values))
        return cursor


def _row_class(names: tuple[str, ...]) -> Any:
    return namedtuple("Row", names, rename=True)  # noqa: PYI024 - which columns there are, only the statement knows


def _compiled(statement: ClauseElement, dialect: Dialect, names: tuple[str, ...]) -> tuple[str, _Arguments]:
    compiled: Any = statement.compile(dialect=dialect, column_keys=list(names))
    fixed = {name: bound.value for name, bound in compiled.binds.items() if name not in names}
    if not compiled.positional:
        return str(compiled), lambda values: {**fixed, **values}
    order = cast("list[str]", compiled.positiontup)
    return str(compiled), lambda values: [values[name] if name in values else fixed[name] for name in order]


class _Errors:
    """Turns the driver's errors into SQLAlchemy's, without the values: a context manager, as cheap as there is."""

    def __init__(self, dialect: Dialect, statement: str) -> None:
        self._dialect = dialect
        self._statement = statement

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        driver: Any = self._dialect.loaded_dbapi
        if isinstance(error, driver.Error):
            hidden: Any = {"hide_parameters": True, "dialect": self._dialect}
            told = DBAPIError.instance(self._statement, None, cast("Exception", error), driver.Error, **hidden)
            raise told from error
