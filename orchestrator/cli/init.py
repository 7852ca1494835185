"""``orchestrator init``: a project to begin with."""

from __future__ import annotations

from pathlib import Path

from orchestrator.cli.output import say
from orchestrator.kit.starting import new_project

NEXT = (
    "    orchestrator check                                              does everything fit?",
    "    orchestrator run lost-download --email anna.berg@example.com    write her mail into outbox/",
    "    orchestrator audit tail                                         what happened",
    "    python -m pytest                                                try the processes with fakes",
    "    orchestrator demo                                               the processes on real servers of this machine",
    "Edit flows/templates/fresh_links.txt.j2, and run it again. README.md says what else there is.",
)


def init(folder: Path) -> None:
    """Write a project that runs at once: its configuration, a process to edit, its tests, and what a server needs.

    Example: ``orchestrator init myshop``

    Args:
        folder: Where it is to be: a new folder, or an empty one.
    """
    new_project(folder)
    say(f"{folder} is a project. Go there with cd, and call:")
    for line in NEXT:
        say(line)
