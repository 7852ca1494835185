"""What Prefect's page of a mirrored run tells: a log with a line a step, at its own time, and no personal data."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from orchestrator.record.clock import moment
from orchestrator.record.trail import Event

LOGGER = "orchestrator.run"
_WARNINGS = frozenset(
    {"effect.in_doubt", "effect.needs_decision", "effect.refused", "step.refused", "run.parked", "run.cancelled"}
)
_ENDS = frozenset({"run.postponed", "run.parked", "run.failed", "run.cancelled", "run.finished"})
_SAID: Mapping[str, str] = MappingProxyType(
    {
        "step.answered": "answered",
        "step.refused": "refused",
        "effect.outcome": "done",
        "effect.refused": "refused",
        "effect.delayed": "not done yet",
        "effect.in_doubt": "it is not known whether it happened",
        "effect.needs_decision": "a person must say whether it happened",
        "run.opened": "Taken in",
        "run.resumed": "Goes on",
        "run.postponed": "Postponed",
        "run.parked": "Waits for a person",
        "run.failed": "Failed",
        "run.cancelled": "Cancelled",
        "run.finished": "Finished",
    }
)
_WORD = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
"""What an outcome is called; nothing else of a result leaves the record."""


def log_of(
    events: Sequence[Event], flow_run_id: str, *, message: str, after: datetime | None = None
) -> list[dict[str, Any]]:
    """Return the lines of a run's log, as Prefect's API takes them.

    Args:
        events: The run's chain.
        flow_run_id: The flow run that shows it.
        message: What the flow run's state says: the last line says it too, on the page that people see first.
        after: Only what happened later; None for all.
    """
    end = _end(events)
    return [
        {
            "name": LOGGER,
            "level": _level(event),
            "message": message if event is end else _line(event),
            "timestamp": event.at,
            "flow_run_id": flow_run_id,
        }
        for event in _told(events)
        if after is None or moment(event.at) > after
    ]


def course(events: Sequence[Event]) -> str:
    """Say when a run began and how long it took: Prefect knows only when it was shown."""
    begun, ended = moment(events[0].at), moment(_end(events).at)
    return f"Taken in at {begun:%Y-%m-%d %H:%M:%S} UTC; it took {(ended - begun).total_seconds():.2f} s up to here."


def outcome(events: Sequence[Event]) -> str:
    """Name the outcome of a finished run, as far as its result is a plain word; else nothing."""
    end = _end(events)
    result = end.data.get("result") if end.kind == "run.finished" else None
    named = result.get("outcome") if isinstance(result, dict) else result
    return named if isinstance(named, str) and _WORD.fullmatch(named) else ""


def _end(events: Sequence[Event]) -> Event:
    """Return how a run ended, or stopped last; more may have become of its mail since."""
    return next((event for event in reversed(events) if event.kind in _ENDS), events[-1])


def _told(events: Sequence[Event]) -> Iterator[Event]:
    """Return the newest event of each step, and what became of the run."""
    newest = {event.context.step: event for event in events}
    for event in events:
        if event.kind in _SAID if event.context.step is None else event is newest[event.context.step]:
            yield event


def _line(event: Event) -> str:
    said = _SAID.get(event.kind, event.kind)
    if event.context.step is not None:
        via = f" ({event.context.connection})" if event.context.connection else ""
        return f"{event.context.step}. {event.context.title}{via}: {said}"
    return f"{said}: {reason}" if (reason := event.data.get("reason")) else said


def _level(event: Event) -> int:
    if event.kind == "run.failed":
        return logging.ERROR
    return logging.WARNING if event.kind in _WARNINGS else logging.INFO
