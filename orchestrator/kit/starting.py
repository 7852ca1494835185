"""A project to begin a business with."""

from __future__ import annotations

import shutil
from pathlib import Path

from orchestrator.errors import ConfigurationError

PROJECT = Path(__file__).with_name("project")
"""What ``orchestrator init`` writes: here, in a checkout, with links to ``flows/``, ``deploy/`` and ``config/``."""


def new_project(folder: Path) -> None:
    """Write a project that runs at once.

    Args:
        folder: Where it is to be; made if there is none.

    Raises:
        ConfigurationError: There is something in that folder already, or it cannot be written.
    """
    try:
        if folder.exists() and any(folder.iterdir()):
            raise ConfigurationError(f"{folder} is not empty, and nothing is written over: name a new folder")
        shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        for name in ("gitignore", "dockerignore"):  # with a dot, they would count in our own tree
            (folder / name).rename(folder / f".{name}")
    except OSError as exc:
        raise ConfigurationError(f"{folder} cannot be written ({exc.strerror}): name another folder") from exc
