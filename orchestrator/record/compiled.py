"""Statements that are compiled once and then go straight to the database's driver.

SQLAlchemy's way through its layers takes several times as long as SQLite takes to execute a small statement. For the
two dozen statements that each run needs, that was half of what the orchestrator adds to a plain handler. They are still
written with SQLAlchemy and executed in its transactions; what the driver raises comes out as SQLAlchemy's errors.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, cast

from sqlalchemy import ClauseElement, Connection, Dialect
from sqlalchemy.exc import DBAPIError

Values = Mapping[str, Any]
_Arguments = Callable[[Values], Any]


class Compiled:
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
            try:
                tx.connection.cursor().executemany(statement, [arguments(row) for row in rows])
            except _errors(tx.dialect) as exc:
                raise _told(tx.dialect, statement, exc) from exc

    def rows(self, tx: Connection, values: Values) -> list[Any]:
        """Execute it; return the rows that it gives, with their columns as attributes."""
        cursor = self._execute(tx, values)
        row = self._row(tuple([column[0] for column in cursor.description]))
        try:
            return [row._make(each) for each in cursor.fetchall()]
        except _errors(tx.dialect) as exc:
            raise _told(tx.dialect, "", exc) from exc

    def row(self, tx: Connection, values: Values) -> Any:
        """Execute it; return the only row that it gives, or None."""
        found = self.rows(tx, values)
        return found[0] if found else None

    def _execute(self, tx: Connection, values: Values) -> Any:
        statement, arguments = self._compiled(tx.dialect, tuple(values))
        cursor = tx.connection.cursor()
        try:
            cursor.execute(statement, arguments(values))
        except _errors(tx.dialect) as exc:
            raise _told(tx.dialect, statement, exc) from exc
        return cursor


def _row_class(names: tuple[str, ...]) -> Any:
    return namedtuple("Row", names, rename=True)  # noqa: PYI024 - which columns there are, only the statement knows


def _compiled(statement: ClauseElement, dialect: Dialect, names: tuple[str, ...]) -> tuple[str, _Arguments]:
    compiled: Any = statement.compile(dialect=dialect, column_keys=list(names))
    fixed = {name: bound.value for name, bound in compiled.binds.items() if name not in names}
    if not compiled.positional:
        return str(compiled), lambda values: {**fixed, **values}
    order = cast("list[str]", compiled.positiontup)
    if len(order) < 2:  # noqa: PLR2004 - of one name, itemgetter gives the value alone
        return str(compiled), lambda values: [{**fixed, **values}[name] for name in order]
    chosen = itemgetter(*order)
    return str(compiled), (lambda values: chosen({**fixed, **values})) if fixed else chosen


def _errors(dialect: Dialect) -> type[Exception]:
    driver: Any = dialect.loaded_dbapi
    return cast("type[Exception]", driver.Error)


def _told(dialect: Dialect, statement: str, error: Exception) -> DBAPIError:
    """Return SQLAlchemy's error for one of the driver, without the values."""
    hidden: Any = {"hide_parameters": True, "dialect": dialect}
    return cast("DBAPIError", DBAPIError.instance(statement, None, error, _errors(dialect), **hidden))
