"""The values of the capabilities as JSON, and answers as values."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from orchestrator.errors import Rejected, Unavailable

T = TypeVar("T")


def document(**values: object) -> dict[str, Any]:
    """Write values as a JSON object, as ``HttpSystem.change`` sends it."""
    return {name: to_jsonable_python(value) for name, value in values.items()}


def in_query(**values: object) -> dict[str, str]:
    """Write each value as JSON, as ``HttpSystem.read`` sends it behind the question mark."""
    return {name: json.dumps(value) for name, value in document(**values).items()}


def value_of(kind: type[T], answer: object, *, changed: bool = False) -> T:
    """Read an answer as a value.

    Args:
        kind: What it should be: ``Link``, ``bool``, ``tuple[Purchase, ...]``.
        answer: The JSON that was answered.
        changed: Whether the call changed something: then it is done, though nobody knows as what.

    Raises:
        Unavailable: It is none, of a call that changed something: *ambiguous*.
        Rejected: It is none, of a call that changed nothing.
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(answer))
    except ValidationError:  # not its cause: it may repeat what was answered
        told = (
            f"an answer cannot be read as {getattr(kind, '__name__', kind)}: compare it with the vendor's description"
        )
        raise (Unavailable(told, no_effect=False) if changed else Rejected(told)) from None
