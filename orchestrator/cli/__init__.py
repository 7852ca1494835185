"""The command line: ``orchestrator --help``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from orchestrator import __version__
from orchestrator.cli.output import complain
from orchestrator.config_file import CONFIG_VARIABLE
from orchestrator.errors import OrchestratorError
from orchestrator.logs import guard
from orchestrator.private_files import create_privately

app = App(
    name="orchestrator",
    help="Run business processes over the systems of a business, every run on the record.",
    help_epilogue="Exit code 0: done. 1: not done, or something is wrong; it is said what. 2: called wrongly.",
    version=__version__,
)
app.register_install_completion_command(
    add_to_startup=False, help="Let your shell complete commands and options; it says where, and what else to do."
)
# Commands are imported when they are called: asking for help costs nothing of what they need.
for _name, _function, _help in (
    ("demo", "demo:demo", "Run the main job on this machine, with all systems here."),
    ("init", "init:init", "Write a project to begin with, which runs at once."),
    ("up", "service:up", "Run everything from one configuration, until stopped."),
    ("ready", "service:ready", "Does the service on this machine do its work?"),
    ("check", "overview:check", "Does everything fit together, and does every connection work?"),
    ("plugins", "overview:plugins", "List the plug-ins, and what is wrong with broken ones."),
    ("processes", "overview:processes", "List the processes, or show the form of one."),
    ("new", "new:new", "Write the package of a connector or of a process, to begin with."),
    ("connectors", "connectors:connectors", "How well a connector keeps its contracts."),
    ("connections", "connections:connections", "List the connections; grant one access to its system."),
    ("run", "running:run", "Execute a process now."),
    ("worker", "service:worker", "Take mail in and execute runs, until stopped."),
    ("gateway", "service:gateway", "Take webhooks in, until stopped."),
    ("runs", "runs:runs", "List runs; resume a stopped one."),
    ("decisions", "decisions:decisions", "Questions that runs ask, and their answers."),
    ("inbox", "inbox:inbox", "Mail and webhook deliveries that were taken in."),
    ("effects", "effects:app", "Outward changes whose outcome is not known."),
    ("audit", "audit:app", "What happened, from the append-only record."),
):
    app.command(f"orchestrator.cli.{_function}", name=_name, help=_help)


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Annotated[Path | None, Parameter(help="The configuration file.")] = None,
) -> object:
    if config is not None:
        os.environ[CONFIG_VARIABLE] = str(config.absolute())  # also for what this starts in another folder
    return app(tokens)


def _explain_in_full(tokens: Sequence[str]) -> None:
    """Let the help of a command be its docstring; the short text is for the list of commands."""
    command = next((token for token in tokens if not token.startswith("-") and token in app), None)
    if command is not None and app[command].default_command is not None:
        app[command].help = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an error of ours is one line on standard error and exit code 1.

    Args:
        arguments: What follows the program's name; without them, what this process was called with.
    """
    if arguments is None:
        guard()
        create_privately()
    _explain_in_full(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(app.meta(arguments))
    except OrchestratorError as exc:
        complain(str(exc))
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(0)
