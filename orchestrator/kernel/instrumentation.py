"""What the kernel tells whoever measures it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from orchestrator import errors
from orchestrator.errors import OrchestratorError

DONE = "done"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is measured: names from configuration and code alone, so that there are few."""

    process: str
    connection: str
    operation: str
    """With its capability: ``mailer.send``."""


class Meter(Protocol):
    """Takes measurements."""

    def execution(self, process: str, state: str) -> None:
        """Note that an execution of a run ended, and the state that it left the run in."""
        ...

    def step(self, measured: Measured, outcome: str, seconds: float) -> None:
        """Note that a step was taken, record and all, and not answered from the record."""
        ...

    def attempt(self, measured: Measured, outcome: str) -> None:
        """Note that a system was called."""
        ...


class NullMeter:
    """Takes no measurements."""

    def execution(self, process: str, state: str) -> None:
        """Do nothing."""

    def step(self, measured: Measured, outcome: str, seconds: float) -> None:
        """Do nothing."""

    def attempt(self, measured: Measured, outcome: str) -> None:
        """Do nothing."""


@contextmanager
def step_measured(meter: Meter, measured: Measured) -> Iterator[None]:
    """Measure the step inside the block."""
    began, outcome = time.perf_counter(), DONE
    try:
        yield
    except BaseException as exc:
        outcome = outcome_of(exc)
        raise
    finally:
        meter.step(measured, outcome, time.perf_counter() - began)


@contextmanager
def attempt_measured(meter: Meter, measured: Measured) -> Iterator[None]:
    """Measure the call inside the block."""
    outcome = DONE
    try:
        yield
    except BaseException as exc:
        outcome = outcome_of(exc)
        raise
    finally:
        meter.attempt(measured, outcome)


def outcome_of(error: BaseException) -> str:
    """Return an error's name in the tree of ``orchestrator.errors``: of those there are few."""
    if not isinstance(error, OrchestratorError):
        return "error"
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
