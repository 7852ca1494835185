"""What is wrong with the configuration, in words that say what to write instead, and never a value."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core.core_schema import ErrorType

from orchestrator.errors import ConfigurationError
from orchestrator.settings.places import Path, dotted, secret_file, section_and_field, variable
from orchestrator.spelling import suggestion

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


@dataclass(frozen=True)
class Problem:
    """One mistake.

    Args:
        where: ``file: [section] field``.
        what: What is wrong.
        remedy: What to write instead.
    """

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.remedy}"


_WORDS: dict[str, tuple[str, str]] = {
    "string_type": ("must be text", "write it in quotes"),
    "int_type": ("must be a whole number", "write it without quotes, such as 30"),
    "int_parsing": ("must be a whole number", "write it without quotes, such as 30"),
    "int_from_float": ("must be a whole number", "write it without a fraction, such as 30"),
    "float_type": ("must be a number", "write it without quotes, such as 1.5"),
    "float_parsing": ("must be a number", "write it without quotes, such as 1.5"),
    "bool_type": ("must be true or false", "write it without quotes"),
    "bool_parsing": ("must be true or false", "write it without quotes"),
    "list_type": ("must be a list", 'write it in brackets, such as ["a", "b"]'),
    "tuple_type": ("must be a list", 'write it in brackets, such as ["a", "b"]'),
    "dict_type": ("must be a section", "write its name in brackets on a line of its own, and its fields below"),
    "model_type": ("must be a section", "write its name in brackets on a line of its own, and its fields below"),
}

_REPEATS_INPUT = frozenset({"value_error", "assertion_error", "union_tag_invalid"})
_OWN_WORDS = frozenset(get_args(ErrorType)) - _REPEATS_INPUT
_SHORTEST_VALUE = 4


def configuration_error(problems: Iterable[Problem]) -> ConfigurationError:
    """Return the one error that lists all problems, a line each."""
    return ConfigurationError("\n".join(dict.fromkeys(str(problem) for problem in problems)))


def problems_in(
    error: ValidationError, model: type[BaseModel], where: Callable[[Path], str], below: Path = ()
) -> list[Problem]:
    """Turn what pydantic found into problems.

    Args:
        error: What pydantic found.
        model: The model that was not fulfilled.
        where: Names the place of a setting, given its whole path.
        below: The path of the section that the model describes.
    """
    return [
        _problem(details, model, where, below) for details in error.errors(include_url=False, include_context=False)
    ]


def _problem(details: ErrorDetails, model: type[BaseModel], where: Callable[[Path], str], below: Path) -> Problem:
    inner = details["loc"][:-1] if _of_a_name(details) else details["loc"]
    path = (*below, *inner)
    if details["type"] == "missing":
        kind = functools.reduce(_inside, inner, model)
        return Problem(where(path), "is missing", _how_to_give(path, is_section=_is_model(_plain(kind))))
    if details["type"] == "extra_forbidden":
        what = "is no section" if len(path) == 1 else "is no setting"
        return Problem(where(path), what, suggestion(str(inner[-1]), _fields(model, inner[:-1])))
    return Problem(where(path), *(_WORDS.get(details["type"]) or _in_other_words(details)))


def _how_to_give(path: Path, *, is_section: bool) -> str:
    if is_section:
        return f"write [{dotted(path)}] with its fields below"
    section, field = section_and_field(path)
    return f"write {field} = ... below {section}, or set {variable(path)}, or the secret file {secret_file(path)}"


def _in_other_words(details: ErrorDetails) -> tuple[str, str]:
    message = details["msg"]
    if details["type"] in _OWN_WORDS:
        return "is not accepted", f"it {message.removeprefix('Input ').removeprefix('String ').removeprefix('Value ')}"
    message = _without_values(message.removeprefix("Value error, ").removeprefix("Assertion failed, "), details)
    if message.startswith("write "):
        return "is not accepted", message
    mark = "; " if "; " in message else ": "
    what, _, remedy = message.partition(mark)
    return what, remedy or "write another value"


def _without_values(message: str, details: ErrorDetails) -> str:
    """Strike what was written out of a message whose author may have repeated it: it may be secret."""
    if _of_a_name(details):
        return message
    for value in sorted(_values(details["input"]), key=len, reverse=True):
        if len(value) >= _SHORTEST_VALUE:
            message = message.replace(value, "...")
    return message


def _of_a_name(details: ErrorDetails) -> bool:
    """Tell whether the name of a section is wrong, not what stands in it."""
    return details["loc"][-1:] == ("[key]",)


def _values(written: object) -> Iterable[str]:
    if isinstance(written, Mapping):
        for value in written.values():
            yield from _values(value)
    elif isinstance(written, list | tuple):
        for value in written:
            yield from _values(value)
    else:
        yield str(written)


def _fields(model: type[BaseModel], path: Path) -> list[str]:
    """Return the fields that a section may hold, none if that cannot be told."""
    kind = _plain(functools.reduce(_inside, path, model))
    return [field.alias or name for name, field in kind.model_fields.items()] if _is_model(kind) else []


def _inside(kind: Any, name: str | int) -> Any:
    kind = _plain(kind)
    if _is_model(kind):
        field = kind.model_fields.get(str(name))
        return field.annotation if field else None
    return get_args(kind)[-1] if get_args(kind) else None


def _plain(kind: Any) -> Any:
    """Leave ``None`` out of an optional type."""
    if get_origin(kind) in (Union, types.UnionType):
        return next(each for each in get_args(kind) if each is not types.NoneType)
    return kind


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
