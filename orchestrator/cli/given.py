"""Values of the command line that name persons: they can come from standard input.

The arguments of a process can be read by every user of the machine, and stay in the shell's history.
"""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from orchestrator.cli.output import complain
from orchestrator.errors import ConfigurationError

STANDARD_INPUT = "-"
Given = Annotated[str, Parameter(allow_leading_hyphen=True)]
"""An option whose value can be ``-``."""


def given_line(option: str, value: str) -> str:
    """Return the value of an option; ``-`` stands for the next line of standard input.

    Args:
        option: The option, to name it.
        value: What stands on the command line.

    Raises:
        ConfigurationError: There is no line, or no value.
    """
    if value.startswith("--"):
        raise ConfigurationError(f"{option} needs a value, or - for a line of standard input")
    if value != STANDARD_INPUT:
        return value
    _prompt(f"{option}, one line:")
    line = _read(option, whole=False)
    if not line:
        raise ConfigurationError(f"{option} -: standard input has no line left for it")
    return line.strip()


def given_text(option: str, value: str) -> str:
    """Return the value of an option; ``-`` stands for all of standard input.

    Args:
        option: The option, to name it.
        value: What stands on the command line.

    Raises:
        ConfigurationError: It is no text.
    """
    if value != STANDARD_INPUT:
        return value
    _prompt(f"{option}, several lines; end with Ctrl-D:")
    return _read(option, whole=True).strip()


def _read(option: str, *, whole: bool) -> str:
    try:
        return sys.stdin.read() if whole else sys.stdin.readline()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{option} -: standard input is no text in UTF-8") from None


def _prompt(wanted: str) -> None:
    if sys.stdin.isatty():
        complain(wanted)
