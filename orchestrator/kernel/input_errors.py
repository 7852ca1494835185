"""What does not fit into the input of a process, in sentences that name fields and never a value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core.core_schema import ErrorType

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_REPEATS_INPUT = frozenset({"value_error", "assertion_error", "union_tag_invalid"})
_OWN_WORDS = frozenset(get_args(ErrorType)) - _REPEATS_INPUT
_NO_FORM = frozenset({"model_type", "model_attributes_type", "dict_type"})

_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "missing": "is missing",
        "extra_forbidden": "has a field that it must not have",
        "string_pattern_mismatch": "is not written as it must be",
    }
)


def misfits(error: ValidationError, model: type[BaseModel], *, authors_words: bool = False) -> str:
    """Say what does not fit, one part of the sentence a field.

    Args:
        error: What pydantic found.
        model: The model of the input.
        authors_words: Whether to repeat what a process's own validators say; it may hold what was written.
    """
    names = set(_names(model.model_json_schema()))
    found = error.errors(include_input=False, include_url=False, include_context=False)
    said = (f"{_where(each, names)} {_what(each, model, authors_words=authors_words)}" for each in found)
    return "; ".join(dict.fromkeys(said))


def _where(details: ErrorDetails, names: set[str]) -> str:
    """Name the field; what is no field of the model may be a value."""
    known = [str(part) for part in details["loc"] if isinstance(part, int) or part in names]
    return ".".join(known) or "the input"


def _what(details: ErrorDetails, model: type[BaseModel], *, authors_words: bool) -> str:
    kind, message = details["type"], details["msg"]
    if kind in _WORDS:
        return _WORDS[kind] + (_example(details, model) if kind == "string_pattern_mismatch" else "")
    if kind in _NO_FORM and not details["loc"]:
        return f"must be a form with the fields {', '.join(model.model_fields)}"
    if kind in _OWN_WORDS:
        return _without(message, "Input ", "String ", "Value ")
    said = f": {_without(message, 'Value error, ', 'Assertion failed, ')}" if authors_words else ""
    return f"is not accepted{said}"


def _example(details: ErrorDetails, model: type[BaseModel]) -> str:
    field = model.model_fields.get(str(details["loc"][0])) if len(details["loc"]) == 1 else None
    return f"; an example: {field.examples[0]}" if field and field.examples else ""


def _without(message: str, *beginnings: str) -> str:
    return next((message.removeprefix(each) for each in beginnings if message.startswith(each)), message)


def _names(schema: Any) -> Iterator[str]:
    """Return the names of all fields in a JSON Schema."""
    for part in (schema, *schema.get("$defs", {}).values()):
        yield from part.get("properties", ())
