"""The one statement that SQLite and PostgreSQL spell alike but SQLAlchemy keeps apart."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Executable, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_if_new(
    tx: Connection,
    table: Table,
    row: Mapping[str, Any],
    *,
    unique: list[str],
    where: ColumnElement[bool] | None = None,
) -> bool:
    """Insert a row unless one with the same unique columns is there.

    Args:
        tx: A write transaction.
        table: Where to.
        row: The columns.
        unique: The columns of the unique index that decides.
        where: The condition of that index, if it is a partial one.

    Returns:
        True if the row was inserted.
    """
    return tx.execute(_insert_if_new(tx.dialect.name, table, tuple(unique), where), row).rowcount == 1


@cache  # there are as many as callers
def _insert_if_new(
    dialect: str, table: Table, unique: tuple[str, ...], where: ColumnElement[bool] | None
) -> Executable:
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = insert(table).on_conflict_do_nothing(index_elements=unique, index_where=where)
    # Without the option, SQLAlchemy 2.0 does not keep the count of an INSERT on PostgreSQL.
    return statement.execution_options(preserve_rowcount=True)
