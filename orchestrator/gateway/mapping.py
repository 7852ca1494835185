"""What a payload says: its values by JSON Pointer (RFC 6901), as the input of a process."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from orchestrator.kernel.input_errors import misfits
from orchestrator.settings import Constant

_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")


class Missing:
    """What a pointer finds where nothing is."""


MISSING: Final = Missing()


class Unfit(Exception):
    """A payload is no input for its process; the message names fields, never a value."""


def read_payload(body: bytes) -> Any:
    """Read a body as JSON.

    Raises:
        Unfit: It is none.
    """
    try:
        return json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Unfit("the body is no JSON") from None


def find(payload: Any, pointer: str) -> Any:
    """Return the value that a pointer names, or ``MISSING``."""
    value = payload
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(name, MISSING)
        elif isinstance(value, list) and _INDEX.fullmatch(name) and int(name) < len(value):
            value = value[int(name)]
        else:
            return MISSING
    return value


def request_from(payload: Any, sources: Mapping[str, str | Constant], model: type[BaseModel]) -> BaseModel:
    """Make the input of a process from a payload.

    Args:
        payload: What was sent.
        sources: Field by field, a pointer or a constant. A field that the payload has no value for keeps its default.
        model: The model of the input.

    Raises:
        Unfit: The payload holds no such input.
    """
    found = {
        field: source.const if isinstance(source, Constant) else find(payload, source)
        for field, source in sources.items()
    }
    try:
        return model.model_validate({field: value for field, value in found.items() if value is not MISSING})
    except ValidationError as exc:
        raise Unfit(misfits(exc, model)) from None
    except Exception as exc:  # noqa: BLE001 - the validators of a process may raise anything
        raise Unfit(f"the input's own validation failed with {type(exc).__name__}") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
