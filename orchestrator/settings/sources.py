"""Settings that are given one by one, each under a name of its own: in the environment, or as files of secrets."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from orchestrator.private_files import OTHERS
from orchestrator.settings.places import DELIMITER, PREFIX
from orchestrator.settings.problems import Problem

SECRETS_DIR = f"{PREFIX}SECRETS_DIR"
"""The environment variable that names another directory of secrets."""


@dataclass
class Named:
    """What was given under names.

    Args:
        values: The text of each setting, by its path.
        names: The name under which it was given, by its path.
        problems: Names and files that cannot be used.
    """

    values: dict[tuple[str, ...], str] = field(default_factory=dict)
    names: dict[tuple[str, ...], str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, name: str, label: str, value: str) -> None:
        """Take one setting, unless another one says that it is a section."""
        path = _path(name)
        for given in self.values:
            shorter, longer = sorted((given, path), key=len)
            if longer[: len(shorter)] == shorter:
                what = f"gives {'twice' if given == path else 'both as a value and as a section'} what is given by"
                self.problems.append(Problem(label, f"{what} {self.names[given]}", "remove one of the two"))
                return
        self.values[path] = value
        self.names[path] = label


class NamedSource(PydanticBaseSettingsSource):
    """Hands named settings to pydantic-settings, as text.

    Text stays text until the model of its section says what it is: a password of digits is no number. Names are
    read without regard to case. A process is named with underscores, as variables cannot hold hyphens.
    """

    def __init__(self, settings_cls: type[BaseSettings], values: Mapping[tuple[str, ...], str]) -> None:
        super().__init__(settings_cls)
        self._sections: dict[str, Any] = {}
        for path, value in values.items():
            section = self._sections
            for name in path[:-1]:
                section = section.setdefault(name, {})
            section[path[-1]] = value

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """Return one top-level section."""
        return self._sections.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return all sections, also those that no field knows, so that they are refused."""
        return self._sections


def from_environment(environment: Mapping[str, str], sections: list[str]) -> Named:
    """Read the variables ``ORCHESTRATOR_<section>__<field>``."""
    named = Named()
    for variable, value in sorted(environment.items()):
        if not variable.startswith(PREFIX) or variable == SECRETS_DIR:
            continue
        label = f"environment variable {variable}"
        if DELIMITER in (name := variable.removeprefix(PREFIX)):
            named.add(name, label, value)
        else:
            named.problems += _almost_a_setting(name, label, sections, PREFIX)
    return named


def from_directory(directory: Path, sections: list[str]) -> Named:
    """Read the files ``<section>__<field>`` of a directory of secrets; hidden files and directories are passed over."""
    named = Named()
    try:
        files = sorted(file for file in directory.iterdir() if file.is_file() and not file.name.startswith("."))
    except OSError as exc:
        named.problems.append(Problem(str(directory), f"cannot be read ({exc.strerror})", f"chmod 700 {directory}"))
        return named
    for file in files:
        if DELIMITER in file.name:
            _add_file(named, file)
        else:
            named.problems += _almost_a_setting(file.name, str(file), sections)
    return named


def _add_file(named: Named, file: Path) -> None:
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & OTHERS:
        what = f"is a secret that others than its owner may use (mode {mode:03o})"
        named.problems.append(Problem(str(file), what, f"run chmod 600 {file}"))
        return
    try:
        named.add(file.name, str(file), file.read_text(encoding="utf-8").rstrip("\r\n"))
    except UnicodeDecodeError:
        named.problems.append(Problem(str(file), "is not UTF-8 text", "save it as UTF-8"))
    except OSError as exc:
        what = f"cannot be read ({exc.strerror})"
        named.problems.append(Problem(str(file), what, "make the orchestrator's user its owner"))


def _almost_a_setting(name: str, label: str, sections: list[str], prefix: str = "") -> list[Problem]:
    """Tell whether a name without the delimiter was meant as a setting; others are nobody's business."""
    section = next((each for each in sections if f"{name.lower()}_".startswith(f"{each}_")), None)
    if section is None:
        return []
    right = f"{prefix}{name[: len(section)]}{DELIMITER}{name[len(section) + 1 :] or '<field>'}"
    return [Problem(label, "names no setting", f"write two underscores between its parts: {right}")]


def _path(name: str) -> tuple[str, ...]:
    path = name.lower().split(DELIMITER)
    if path[0] == "processes" and len(path) > 1:
        path[1] = path[1].replace("_", "-")
    return tuple(path)
