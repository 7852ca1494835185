"""Settings that are given one by one, each under a name of its own: in the environment, or as files of secrets."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic_settings import EnvSettingsSource

from orchestrator.private_files import OTHERS
from orchestrator.settings.folder import placed
from orchestrator.settings.model import Settings
from orchestrator.settings.places import DELIMITER, PREFIX
from orchestrator.settings.problems import Problem

SECRETS_DIR = f"{PREFIX}SECRETS_DIR"
"""The environment variable that names another directory of secrets."""


class NamedSource(EnvSettingsSource):
    """Settings by names such as ``store__url``.

    Text stays text until the model of its section says what it is: a password of digits is no number. Names are
    read without regard to case. A process is named with underscores, as variables cannot hold hyphens.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(Settings)
        self.env_vars: dict[str, str] = {}
        self.names: dict[tuple[str, ...], str] = {}
        """What gave each setting, by the setting's path."""
        self.problems: list[Problem] = []
        """Names and files that cannot be used."""
        self._folder = folder

    def decode_complex_value(self, field_name: str, field: object, value: str) -> str:  # noqa: ARG002
        """Leave text as it is."""
        return value

    def __call__(self) -> dict[str, Any]:
        """Return all sections, also those that no field knows, so that they are refused."""
        unknown: dict[str, Any] = {path[0]: {} for path in self.names}
        return cast("dict[str, Any]", placed(unknown | super().__call__(), Settings, self._folder, defaults=False))

    def _is_setting(self, name: str, label: str, prefix: str = "") -> bool:
        """Tell whether a name is a setting's; report it if it was meant as one, and leave others alone."""
        if DELIMITER in name:
            return True
        section = next((each for each in Settings.model_fields if f"{name.lower()}_".startswith(f"{each}_")), None)
        if section:
            right = f"{prefix}{name[: len(section)]}{DELIMITER}{name[len(section) + 1 :] or '<field>'}"
            remedy = f"write two underscores between its parts: {right}"
            self.problems.append(Problem(label, "names no setting", remedy))
        return False

    def _add(self, name: str, label: str, value: str) -> None:
        """Take one setting, unless another one says that it is a section."""
        path = _path(name)
        for given in self.names:
            shorter, longer = sorted((given, path), key=len)
            if longer[: len(shorter)] == shorter:
                what = f"gives {'twice' if given == path else 'both as a value and as a section'} what is given by"
                self.problems.append(Problem(label, f"{what} {self.names[given]}", "remove one of the two"))
                return
        self.env_vars[DELIMITER.join(path)] = value
        self.names[path] = label


class EnvironmentSource(NamedSource):
    """The variables ``ORCHESTRATOR_<section>__<field>``."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(folder)
        for variable, value in sorted(environment.items()):
            name, label = variable.removeprefix(PREFIX), f"environment variable {variable}"
            if name != variable != SECRETS_DIR and self._is_setting(name, label, PREFIX):
                self._add(name, label, value)


class SecretsSource(NamedSource):
    """The files ``<section>__<field>`` of a directory; hidden files and directories are passed over."""

    def __init__(self, folder: Path, chosen: str | None) -> None:
        super().__init__(folder)
        directory = folder / (chosen or "secrets")
        if directory.is_dir():
            self._read(directory)
        elif chosen:
            label = f"environment variable {SECRETS_DIR}"
            self.problems.append(Problem(label, "names no directory", "create it, or unset the variable"))

    def _read(self, directory: Path) -> None:
        try:
            files = sorted(file for file in directory.iterdir() if file.is_file() and not file.name.startswith("."))
        except OSError as exc:
            problem = Problem(str(directory), f"cannot be read ({exc.strerror})", f"chmod 700 {directory}")
            self.problems.append(problem)
            return
        for file in files:
            if self._is_setting(file.name, str(file)):
                self._read_file(file)

    def _read_file(self, file: Path) -> None:
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & OTHERS:
            what = f"is a secret that others than its owner may use (mode {mode:03o})"
            self.problems.append(Problem(str(file), what, f"run chmod 600 {file}"))
            return
        try:
            self._add(file.name, str(file), file.read_text(encoding="utf-8").rstrip("\r\n"))
        except UnicodeDecodeError:
            self.problems.append(Problem(str(file), "is not UTF-8 text", "save it as UTF-8"))
        except OSError as exc:
            what = f"cannot be read ({exc.strerror})"
            self.problems.append(Problem(str(file), what, "make the orchestrator's user its owner"))


def _path(name: str) -> tuple[str, ...]:
    path = name.lower().split(DELIMITER)
    if path[0] == "processes" and len(path) > 1:
        path[1] = path[1].replace("_", "-")
    return tuple(path)
