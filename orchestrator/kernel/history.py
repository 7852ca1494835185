"""What a run has done already, step by step, as its own record tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator import errors
from orchestrator.errors import ConnectorError, EffectAbandoned
from orchestrator.ledger.states import Cause
from orchestrator.record.trail import Event

ANSWERED = frozenset({"step.answered", "effect.outcome"})
REFUSED = frozenset({"step.refused", "effect.refused"})
ASKED = frozenset({"step.answered", "step.refused", "effect.intent"})
"""Events that hold the request of their step."""


@dataclass(kw_only=True)
class RecordedStep:
    """One step of a run as far as the record holds it."""

    operation: str
    request: Any
    answer: Any = None
    settled: bool = False
    """True if there is an answer, a refusal or a decision that ends the step."""
    error: Exception | None = None
    happened: bool = False
    """True if a person said that it happened: then there is no answer of the system."""


@dataclass(kw_only=True)
class RecordedRun:
    """One run as far as the record holds it."""

    request: Any = None
    steps: dict[int, RecordedStep] = field(default_factory=dict)


def read_past(events: list[Event]) -> RecordedRun:
    """Gather what events say of a run; private values are still commitments."""
    past = RecordedRun()
    for event in events:
        if event.kind == "run.opened":
            past.request = event.data["request"]
        elif event.context.step is not None:
            _read_step(past, event)
    return past


def _read_step(past: RecordedRun, event: Event) -> None:
    step = int(event.context.step or 0)
    if event.kind in ASKED:
        operation = f"{event.context.capability}.{event.context.operation}"
        past.steps[step] = RecordedStep(operation=operation, request=event.data["request"])
    if event.kind in ANSWERED:
        past.steps[step].answer = event.data["answer"]
        past.steps[step].settled = True
    elif event.kind in REFUSED:
        past.steps[step].error = _error(event.data)
        past.steps[step].settled = True
    elif event.kind == "effect.decision":
        _read_decision(past.steps[step], event.data)


def _read_decision(step: RecordedStep, data: Mapping[str, Any]) -> None:
    match data["decision"]:
        case Cause.HAPPENED:
            step.happened = step.settled = True
        case Cause.GIVE_UP:
            step.error = EffectAbandoned(f"an operator gave up {step.operation}")
            step.settled = True


def _error(data: Mapping[str, Any]) -> Exception:
    kind = getattr(errors, data["error"], ConnectorError)
    return kind(data["message"]) if issubclass(kind, ConnectorError) else ConnectorError(data["message"])
