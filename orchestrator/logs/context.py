"""What a line of the log is about: fields that hold for all that is logged inside a block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_about: ContextVar[Mapping[str, str]] = ContextVar("about", default=MappingProxyType({}))


@contextmanager
def about(**fields: str | None) -> Iterator[None]:
    """Say what everything inside the block is about: ``run``, ``case``, ``process``, ``connection``.

    Args:
        fields: Ids and names, no personal data; None leaves a field out.
    """
    token = _about.set({**_about.get(), **{name: value for name, value in fields.items() if value is not None}})
    try:
        yield
    finally:
        _about.reset(token)


def fields_now() -> Mapping[str, str]:
    """Return what the present block is about."""
    return _about.get()
