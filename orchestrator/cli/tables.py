"""Tables for people, as wide as their terminal."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from orchestrator.cli.printable import printable_line

WIDE = 10_000
"""Characters of a line that no terminal shows, but a program such as grep reads."""
NARROWEST = 24
"""A column of text is never made narrower, unless its texts are shorter."""
LONGEST_WORD = 40
"""A longer word of a text may be broken; ids and dates are shorter."""
GAP = 2
"""Blanks between two columns."""
_DATE = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d[:.Z\d]*$")
_AGES = (
    (timedelta(days=1), "d"),
    (timedelta(hours=1), "h"),
    (timedelta(minutes=1), "min"),
    (timedelta(seconds=1), "s"),
)


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> tuple[str, ...]:
    """Print rows as a table; texts are wrapped by words, and no id or date is ever broken.

    Args:
        rows: What to print.
        columns: The columns, the most useful first: those at the end are left out if the terminal is too narrow.

    Returns:
        The titles of the columns that were left out.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    widths = _widths(rows, columns, console.width)
    for column, width in widths.items():
        table.add_column(_title(column), width=width, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(row[column])) for column in widths))
    console.print(table)
    return tuple(map(_title, columns[len(widths) :]))


def cell(value: Any) -> str:
    """Return a value as people read it, in one line."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case timedelta():
            return _age(value)
        case list() | tuple():
            return printable_line(", ".join(str(item) for item in value))
        case _:
            return printable_line(str(value))


def _age(span: timedelta) -> str:
    """Return a span by its largest unit."""
    unit, name = next(((unit, name) for unit, name in _AGES if abs(span) >= unit), _AGES[-1])
    return f"{int(span / unit)} {name}"


def _title(column: str) -> str:
    return column.replace("_", " ")


def _widths(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], room: int) -> dict[str, int]:
    """Return how wide the columns are that have room."""
    wanted = {column: max(_length(_title(column)), *(_length(cell(row[column])) for row in rows)) for column in columns}
    widths: dict[str, int] = {}
    for column in columns:
        least = min(wanted[column], max(_least(row[column]) for row in rows))
        least = max(least, *map(_length, _title(column).split()))
        if widths and sum(widths.values()) + GAP * len(widths) + least > room:
            break
        widths[column] = least
    return _stretched(widths, wanted, room - sum(widths.values()) - GAP * (len(widths) - 1))


def _least(value: Any) -> int:
    """Return how narrow a value may be shown."""
    text = cell(value)
    if not isinstance(value, str | list | tuple) or _DATE.match(text):
        return _length(text)
    longest = max(map(_length, text.split()), default=0)
    return max(min(longest, LONGEST_WORD), min(_length(text), NARROWEST))


def _stretched(widths: dict[str, int], wanted: Mapping[str, int], spare: int) -> dict[str, int]:
    """Share out the room that is left; who needs little is served first."""
    stretched = dict(widths)
    needy = sorted(widths, key=lambda column: wanted[column] - widths[column])
    for position, column in enumerate(needy):
        more = max(0, min(wanted[column] - widths[column], spare // (len(needy) - position)))
        stretched[column] += more
        spare -= more
    return stretched


def _length(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)
