"""Output: tables for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import BaseModel

from orchestrator.errors import OrchestratorError

WIDE = 10_000
"""Characters of a line that no terminal shows, but a program such as grep reads."""
Several = tuple[str, ...]
"""One id or more, as a positional parameter."""
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON, for programs.")]


def show(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, empty: str) -> None:
    """Print rows as a table, or all their fields as JSON.

    Args:
        rows: What to print.
        columns: The columns that people need.
        as_json: Whether a program reads it.
        empty: What to say if there is nothing.
    """
    if as_json:
        print_json(list(rows))
    elif not rows:
        say(empty)
    else:
        _print_table(rows, columns)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    sys.stdout.write(json.dumps(value, default=_plain, indent=2) + "\n")


def say(line: str = "") -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")


def each(ids: Sequence[str], act: Callable[[str], str]) -> int:
    """Do the same to several things, and print what is said of each; an error with one keeps nothing from the others.

    Args:
        ids: The things.
        act: Does it to one, and returns what to say.

    Returns:
        The exit code.
    """
    code = 0
    for one in ids:
        try:
            say(act(one))
        except OrchestratorError as exc:
            sys.stderr.write(f"{exc}\n")
            code = 1
    return code


def fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        # The first column names the row: people copy it into the next command.
        table.add_column(column.replace("_", " "), overflow="fold", no_wrap=column == columns[0])
    for row in rows:
        table.add_row(*(Text(cell(row[column])) for column in columns))
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def cell(value: Any) -> str:
    """Return a value as people read it."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case list() | tuple():
            return ", ".join(str(item) for item in value)
        case _:
            return str(value)


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat()
        case Path():
            return str(value)
        case BaseModel():
            return value.model_dump(mode="json")
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return fields(value)
        case _:
            return str(value)
