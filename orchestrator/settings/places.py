"""Where a setting is written: its place in the file, its variable in the environment, its file among the secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

PREFIX = "ORCHESTRATOR_"
DELIMITER = "__"

Path = tuple[str | int, ...]
"""A setting's path, for example ``("connections", "shop", "url")``."""

_NAMED_SECTIONS = frozenset({"connections", "mailboxes", "processes", "webhooks"})
"""Those that hold a section for each name."""
_NAMED_DEPTH = 2
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def section_and_field(path: Path) -> tuple[str, str]:
    """Return the section, in TOML's brackets, and the field below it; no field for a section as a whole."""
    names = list(path)
    if len(names) <= (_NAMED_DEPTH if names[0] in _NAMED_SECTIONS else 1):
        return f"[{dotted(names)}]", ""
    first_number = next((place for place, name in enumerate(names) if isinstance(name, int)), len(names))
    border = max(first_number - 1, 1)
    return f"[{dotted(names[:border])}]", dotted(names[border:])


def dotted(names: Iterable[str | int]) -> str:
    """Return a path as TOML writes it."""
    return ".".join(text if _BARE_KEY.fullmatch(text := str(name)) else f'"{text}"' for name in names)


def written(path: Path) -> str:
    """Return how a message names the setting: ``[connections.shop] url``."""
    return " ".join(part for part in section_and_field(path) if part)


def variable(path: Path) -> str:
    """Return the environment variable that overrides the setting."""
    return PREFIX + secret_file(path).upper()


def secret_file(path: Path) -> str:
    """Return the name of the secret file that overrides the setting."""
    return DELIMITER.join(str(name).replace("-", "_") for name in path)


@dataclass(frozen=True)
class Origins:
    """Where each setting came from.

    Args:
        file: The configuration file, as the operator wrote it.
        document: What the file holds.
        named: What else gave a setting, by the setting's path: a variable or a secret file.
    """

    file: str = "configuration"
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)
    named: Mapping[tuple[str, ...], str] = field(default_factory=dict)

    def of(self, path: Path) -> str:
        """Name what gave the setting, or, for one that nobody gave, the file where it should stand."""
        above = [name for given, name in self.named.items() if path[: len(given)] == given]
        below = [name for given, name in self.named.items() if given[: len(path)] == path]
        if above or (below and not self._is_section_of_file(path)):
            return ", ".join(above or below)
        return f"{self.file} with {', '.join(below)}" if below else self.file

    def is_in_file(self, path: Path) -> bool:
        """Tell whether the value that counts stands in the file."""
        if any(path[: len(given)] == given for given in self.named):
            return False
        section: Any = self.document
        for name in path:
            if isinstance(section, str):  # several values in one text
                return True
            try:
                section = section[name]
            except (LookupError, TypeError):
                return False
        return True

    def _is_section_of_file(self, path: Iterable[str | int]) -> bool:
        section: object = self.document
        for name in path:
            if not isinstance(section, Mapping) or name not in section:
                return False
            section = section[str(name)]
        return isinstance(section, Mapping)
