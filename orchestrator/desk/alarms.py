"""Tells the people who run the business what stopped: a process of theirs is started with what is new."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256

from sqlalchemy import Connection, insert, select, update

from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.runs import Opening, Runs
from orchestrator.ledger.duplicates import DUPLICATED
from orchestrator.record.clock import moment, stamp
from orchestrator.record.record import Record
from orchestrator.record.tables import audit_event, intake_cursor
from orchestrator.record.trail import SYSTEM, Event, event_of

SOURCE = "alarms"
ALARMING = frozenset({"connection.denied", "connection.down", "run.failed", DUPLICATED})
NEWS = ALARMING | {"connection.working", "run.parked", "decision.overdue"}
"""The events that people are told of."""
SETTLES = timedelta(seconds=5)
"""An event may become visible so long after the moment that it carries."""
MOST = 100
"""At most so many events are told in one notice; the others follow in the next."""
IDLE = timedelta(minutes=10)
"""Without news, the place in the trail is noted so often."""


class Alarms:
    """Finds what is new in the audit trail, and starts a process with it.

    Args:
        record: Where the trail is.
        runs: Opens the runs.
        process: What is started; its input has the fields of a notice.
    """

    def __init__(self, record: Record, runs: Runs, process: ProcessDefinition) -> None:
        self._record = record
        self._runs = runs
        self._process = process

    def tell(self) -> str | None:
        """Start the process if there are news; the place in the trail moves in the same transaction.

        What happened before the first call is not told.

        Returns:
            The id of its run.
        """
        until = self._record.clock() - SETTLES
        with self._record.store.write() as tx:
            since = self._place(tx)
            if since is None:
                tx.execute(insert(intake_cursor).values(source=SOURCE, **_at(stamp(until))))
                return None
            news = self._news(tx, since, stamp(until))
            run_id = self._open(tx, news) if news else None
            if news or moment(since) < until - IDLE:
                place = news[-1].at if len(news) == MOST else stamp(until)
                tx.execute(update(intake_cursor).where(intake_cursor.c.source == SOURCE).values(_at(place)))
        return run_id

    def _place(self, tx: Connection) -> str | None:
        mine = select(intake_cursor.c.cursor).where(intake_cursor.c.source == SOURCE)
        return tx.execute(mine.with_for_update()).scalar_one_or_none()

    def _news(self, tx: Connection, since: str, until: str) -> list[Event]:
        chosen = select(audit_event).where(
            audit_event.c.at > since,
            audit_event.c.at <= until,
            audit_event.c.kind.in_(NEWS),
            audit_event.c.process.is_distinct_from(self._process.name),  # a failed alarm raises no alarm
        )
        events = [event_of(row) for row in tx.execute(chosen.order_by(audit_event.c.at).limit(MOST))]
        # Why a run waits for a connection, the connection's own event says.
        return [event for event in events if event.data.get("error") != "AccessDenied"]

    def _open(self, tx: Connection, news: Sequence[Event]) -> str:
        alarming = any(event.kind in ALARMING for event in news)
        calm = all(event.kind == "connection.working" for event in news)
        request = {
            "title": _title(news),
            "lines": [_line(event) for event in news],
            "severity": "alarm" if alarming else "info" if calm else "warning",
        }
        opening = Opening(
            definition=self._process,
            request=self._process.request.model_validate(request),
            run_id=f"r-{sha256('/'.join(event.event_id for event in news).encode()).hexdigest()[:24]}",
            actor=SYSTEM,
        )
        self._runs.open(tx, opening)
        return opening.run_id


def _at(place: str) -> dict[str, str]:
    return {"cursor": place, "since": place, "updated_at": place}


def _title(news: Sequence[Event]) -> str:
    twice = len({event.context.effect_id for event in news if event.kind == DUPLICATED})
    stopped = len({event.context.run_id for event in news if event.context.run_id and event.kind != DUPLICATED})
    connections = sorted({str(event.context.connection) for event in news if event.kind.startswith("connection.")})
    runs = f"{stopped} run{'s' if stopped > 1 else ''} stopped" if stopped else ""
    doubled = f"{twice} effect{'s' if twice > 1 else ''} happened twice" if twice else ""
    return "; ".join(filter(None, [f"Connections: {', '.join(connections)}" if connections else "", runs, doubled]))


def _line(event: Event) -> str:
    reason = event.data.get("reason", "")
    if event.kind.startswith("connection."):
        what = f"connection {event.context.connection}: {event.kind.removeprefix('connection.')}"
    elif event.kind == DUPLICATED:
        what = f"effect {event.context.effect_id} (connection {event.context.connection}): happened twice"
    else:
        what = f"run {event.context.run_id} ({event.context.process}): {event.kind.partition('.')[2]}"
    return f"{event.at[:19].replace('T', ' ')} UTC, {what}{f': {reason}' if reason else ''}"
