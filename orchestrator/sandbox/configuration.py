"""The configuration of one start of the sandbox: the packaged one, with the places of this start."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PACKAGED = Path(__file__).with_name("sandbox.toml")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def moved(document: Mapping[str, Any], places: Mapping[str, str | int | list[str]]) -> dict[str, Any]:
    """Return a configuration with other values.

    Args:
        document: The configuration.
        places: Each new value by its name, with dots between its parts: ``connections.shop.url``.
    """
    changed = json.loads(json.dumps(document))
    for name, value in places.items():
        *sections, field = name.split(".")
        section = changed
        for each in sections:
            section = section.setdefault(each, {})
        section[field] = value
    return dict(changed)


def as_toml(document: Mapping[str, Any]) -> str:
    """Write a configuration of texts, numbers, truth values, lists of them, and sections as TOML (https://toml.io/v1.0.0)."""
    return "\n".join(_lines(document, ())) + "\n"


def _lines(section: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    if path:
        yield f"\n[{'.'.join(map(_key, path))}]"
    for name, value in section.items():
        if not isinstance(value, Mapping):
            yield f"{_key(name)} = {json.dumps(value, ensure_ascii=False)}"  # a text of JSON is a basic string of TOML
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from _lines(value, (*path, name))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name)
