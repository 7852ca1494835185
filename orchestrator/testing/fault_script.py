"""What every fake can do beside its own work: record how it was called, and fail when it is told to."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from orchestrator.errors import ConnectorError


class Call(NamedTuple):
    """One call of an operation, without what the host adds to it."""

    operation: str
    arguments: dict[str, object]


class _Failure(NamedTuple):
    error: ConnectorError
    after_acting: bool


class Scripted:
    """Calls in the order they came, and failures in the order they were asked for."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._failures: deque[_Failure] = deque()

    def fail_next(self, error: ConnectorError, *, after_acting: bool = False) -> None:
        """Let one more of the next calls fail.

        Args:
            error: What it raises.
            after_acting: True if it acts first: applied, then the connection dropped.
        """
        self._failures.append(_Failure(error, after_acting))

    @contextmanager
    def _call(self, operation: str, **arguments: object) -> Iterator[None]:
        self.calls.append(Call(operation, arguments))
        failure = self._failures.popleft() if self._failures else None
        if failure and not failure.after_acting:
            raise failure.error
        yield
        if failure:
            raise failure.error
