"""Configurations that tests write, and what is said about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.settings import Settings, load_settings
from tests.support.paths import ROOT

FLOWS = f'plugins = {{modules = ["flows"], folder = "{ROOT}"}}\n'
"""The first line of a configuration with the processes of this repository."""


def load(folder: Path, text: str = "", secrets: dict[str, str] | None = None, /, **variables: str) -> Settings:
    """Load a file, secrets and variables; a variable is written without its prefix."""
    (folder / "o.toml").write_text(text)
    (folder / "secrets").mkdir(exist_ok=True)
    for name, value in (secrets or {}).items():
        (folder / "secrets" / name).write_text(value)
        (folder / "secrets" / name).chmod(0o600)
    return load_settings(folder / "o.toml", {f"ORCHESTRATOR_{name}": value for name, value in variables.items()})


def mistakes(folder: Path, text: str = "", secrets: dict[str, str] | None = None, /, **variables: str) -> list[str]:
    """Return the problems of a configuration, with the folder left out."""
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text, secrets, **variables)
    return str(caught.value).replace(f"{folder}/", "").splitlines()
