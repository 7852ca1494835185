"""Output: tables and text for people, JSON for programs.

Nothing else prints. What a mail, a webhook or a system brought can hold controls of the terminal; it is cleaned here,
whatever command prints it.
"""

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

from orchestrator.cli.printable import printable_line, printable_text
from orchestrator.cli.tables import cell, print_table
from orchestrator.errors import OrchestratorError

__all__ = [
    "COUNTED",
    "Json",
    "Several",
    "cell",
    "complain",
    "each",
    "fields",
    "print_json",
    "say",
    "say_text",
    "show",
]
COUNTED = 10_000
"""Lists count no further how many more there are."""
Several = tuple[str, ...]
"""One id or more, as a positional parameter."""
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON, for programs.")]


def show(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, empty: str, total: int | None = None
) -> None:
    """Print rows as a table, or all their fields as JSON; say what was left out.

    Args:
        rows: What to print.
        columns: The columns that people need, the most useful first.
        as_json: Whether a program reads it.
        empty: What to say if there is nothing.
        total: How many there are in all, if these may be the first of more; ``-n`` shows more of them.
    """
    if as_json:
        print_json(list(rows))
    elif not rows:
        say(empty)
    elif left_out := print_table(rows, columns):
        say(f"Not shown here: {', '.join(left_out)}; a wider terminal or --json shows it.")
    if total is not None and total > len(rows) > 0:
        counted = f"{COUNTED} or more" if total == COUNTED else total
        (complain if as_json else say)(f"{len(rows)} of {counted}; to see more: -n {total}")


def print_json(value: Any) -> None:
    """Print a value as JSON, in printable ASCII alone."""
    text = json.dumps(value, default=_plain, indent=2, ensure_ascii=True)
    sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")


def say(line: str = "") -> None:
    """Print a line."""
    sys.stdout.write(f"{printable_line(line)}\n")


def say_text(text: str) -> None:
    """Print a text of several lines."""
    sys.stdout.write(f"{printable_text(text)}\n")


def complain(text: str) -> None:
    """Print what went wrong, to standard error."""
    sys.stderr.write(f"{printable_text(text)}\n")
    sys.stderr.flush()


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
            complain(str(exc))
            code = 1
    return code


def fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


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
