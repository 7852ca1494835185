"""Relative paths of the configuration count from the folder of its file, whatever folder a command is started in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///(?:file:)?)(?!/|file:|:memory:)(.+)", re.DOTALL)


def placed(value: object, hint: object, folder: Path, *, defaults: bool = True) -> Any:
    """Return what a setting was given as, with every relative path in it counted from the folder.

    Paths are the text of fields that are typed so, and those of SQLite URLs, wherever they stand.

    Args:
        value: As it was written: text, a number, a list or a section.
        hint: The type of its field, or several; a model for a section.
        folder: The folder of the configuration file.
        defaults: Whether paths that sections leave to their defaults are filled in.
    """
    match value:
        case str() if any(issubclass(kind, PurePath) for kind in _kinds(hint)):
            return str(folder / value)
        case str():
            return _SQLITE.sub(lambda url: f"{url[1]}{folder / url[2]}", value)
        case dict():
            given = {**_default_places(hint), **value} if defaults else value
            return {name: placed(each, _below(hint, name), folder, defaults=defaults) for name, each in given.items()}
        case list():
            return [placed(each, _below(hint, 0), folder, defaults=defaults) for each in value]
        case _:
            return value


def _kinds(hint: object) -> Iterator[type]:
    """Return the plain types that a value of this hint may have."""
    return (arm for arm in _arms(hint) if isinstance(arm, type))


def _arms(hint: object) -> Iterator[object]:
    origin = get_origin(hint)
    if origin is Annotated:
        yield from _arms(get_args(hint)[0])
    elif isinstance(hint, tuple) or origin in (Union, UnionType):
        for arm in hint if isinstance(hint, tuple) else get_args(hint):
            yield from _arms(arm)
    else:
        yield hint


def _default_places(hint: object) -> dict[str, Any]:
    """Return the default paths of a model, as one would write them."""
    models = (kind for kind in _kinds(hint) if issubclass(kind, BaseModel))
    return {
        name: written
        for model in models
        for name, field in model.model_fields.items()
        if (written := _written(field.default)) is not None
    }


def _written(default: object) -> object:
    match default:
        case PurePath():
            return str(default)
        case str() if _SQLITE.match(default):
            return default
        case BaseModel():
            return _default_places(type(default)) or None
        case _:
            return None


def _below(hint: object, name: object) -> object:
    """Return the type of what stands below a section or list."""
    found: list[object] = []
    for arm in _arms(hint):
        if isinstance(arm, type) and issubclass(arm, BaseModel) and name in arm.model_fields:
            found.append(arm.model_fields[str(name)].annotation)
        elif get_origin(arm) in (dict, list, tuple, frozenset, set):
            found.append(get_args(arm)[1 if get_origin(arm) is dict else 0])
    return tuple(found)
