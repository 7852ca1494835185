"""Secrets in a configuration file that others than its owner may read."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path as File

from orchestrator.private_files import OTHERS
from orchestrator.settings.places import Origins, Path, written
from orchestrator.settings.problems import Problem

NO_SECRETS = ("sandbox-", "sqlite:", "sqlite+")
"""So begin those that everybody knows, the sandbox's, and addresses of databases that are files."""


def exposed(origins: Origins, secrets: Iterable[tuple[Path, str]]) -> list[Problem]:
    """Find the secrets that stand in a file which others may read; the first one is enough to say so.

    Args:
        origins: The configuration file, and what else gave settings.
        secrets: The secrets of the configuration, each with its place.
    """
    for path, secret in secrets:
        if origins.is_in_file(path) and not secret.startswith(NO_SECRETS):
            mode = stat.S_IMODE(File(origins.file).stat().st_mode)
            what = f"holds a secret ({written(path)}), and others than its owner may use it (mode {mode:03o})"
            return [Problem(origins.file, what, f"run chmod 600 {origins.file}")] if mode & OTHERS else []
    return []
