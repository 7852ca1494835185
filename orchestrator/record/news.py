"""What people are to be notified of: each event that is news is noted in the transaction that writes it.

So none is lost, however many are written at once, in however many processes, and whatever their clocks say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from sqlalchemy import insert

from orchestrator.record.compiled import Compiled
from orchestrator.record.tables import news

INSERT_NEWS = Compiled(insert(news))
_STOPPED = frozenset(
    {
        "connection.denied",
        "connection.down",
        "connection.unproven",
        "connection.working",
        "decision.overdue",
        "effect.duplicated",
        "run.failed",
        "run.parked",
    }
)


class Topic(StrEnum):
    """What a piece of news is about; each topic has notices of its own."""

    STOPPED = "stopped"
    """A connection, a run or a question."""
    MAIL = "mail"
    """A mail that is kept for a person."""


def news_in(events: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of those events that people are notified of."""
    for event in events:
        if topic := _topic(event):
            yield {"event_id": event["event_id"], "topic": topic}


def _topic(event: Mapping[str, Any]) -> Topic | None:
    if event["kind"] in _STOPPED:
        return Topic.STOPPED
    done = (event["kind"], event["capability"], event["operation"])
    return Topic.MAIL if done == ("effect.outcome", "inbox", "keep_for_person") else None
