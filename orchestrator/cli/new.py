"""``orchestrator new``: packages to begin with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cyclopts import App

from orchestrator.cli.output import say
from orchestrator.kit.generating import new_capability, new_connector, new_process

new = App(name="new", help="Write the package of a capability, of a connector or of a process, to begin with.")
HERE = Path()


@new.command
def capability(name: str, *, into: Path = HERE) -> None:
    """Write the package of a capability, with a fake and a contract for its connectors, that passes its own tests.

    Example: ``orchestrator new capability room-booking``

    Args:
        name: What it is to be called; a connector says --provides RoomBooking then.
        into: The directory in which the package's directory is made.
    """
    _tell(new_capability(name, into))


@new.command
def connector(name: str, *, provides: list[str], into: Path = HERE) -> None:
    """Write the package of a connector that installs and passes its own tests at once.

    Example: ``orchestrator new connector acme-files --provides FileLinks``

    Args:
        name: What connector = "..." will say in the configuration.
        provides: A capability that it is to give, such as FileLinks; several: write the option several times.
        into: The directory in which the package's directory is made.
    """
    _tell(new_connector(name, provides, into))


@new.command
def process(name: str, *, into: Path = HERE) -> None:
    """Write the package of a process that installs and passes its own tests at once.

    Example: ``orchestrator new process refund-request``

    Args:
        name: A noun phrase, such as refund-request.
        into: The directory in which the package's directory is made.
    """
    _tell(new_process(name, into))


def _tell(files: Sequence[Path]) -> None:
    for file in files:
        say(str(file))
