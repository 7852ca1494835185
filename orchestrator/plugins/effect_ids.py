"""The id of an effect, for the connectors that ask for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
EFFECT_ID = "effect_id"
"""The keyword argument that the host gives to an effect, and a process never does."""


def asks_for_effect_id(operation: Callable[..., object]) -> bool:
    """Tell whether a connection's method takes the id of the effect, by name or as any keyword."""
    try:
        parameters = inspect.signature(operation).parameters.values()
    except ValueError:  # built in, without a signature
        return False
    return any(
        each.kind is each.VAR_KEYWORD or (each.name == EFFECT_ID and each.kind is not each.POSITIONAL_ONLY)
        for each in parameters
    )


def with_effect_id(operation: Callable[P, T], effect_id: str | None) -> Callable[P, T]:
    """Return an operation that is given the id of its effect if it asks for it, as the host calls it."""
    called: Callable[..., T] = operation
    return partial(called, effect_id=effect_id) if asks_for_effect_id(operation) else operation
