"""Statements that several modules need."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, Table, func, literal, select, text

from orchestrator.record.compiled import Compiled


def count_up_to(tx: Connection, chosen: Select[Any], at_most: int) -> int:
    """Return how many rows a query finds, and read no more of them than that.

    Args:
        tx: A transaction.
        chosen: The query.
        at_most: Where to stop.
    """
    found = chosen.with_only_columns(literal(1), maintain_column_froms=True).limit(at_most).subquery()
    return tx.execute(select(func.count()).select_from(found)).scalar_one()


def insert_if_new(tx: Connection, table: Table, row: Mapping[str, Any], *, unique: list[str], where: str = "") -> bool:
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
    return _insert_if_new(table, tuple(row), tuple(unique), where)(tx, row) == 1


@cache  # there are as many as callers
def _insert_if_new(table: Table, columns: tuple[str, ...], unique: tuple[str, ...], where: str) -> Compiled:
    names = [table.c[column].name for column in columns]  # a name that is no column is refused here
    values = ", ".join(f":{name}" for name in names)
    target = f"({', '.join(unique)})" + (f" WHERE {where}" if where else "")
    statement = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({values}) ON CONFLICT {target} DO NOTHING"
    return Compiled(text(statement))
