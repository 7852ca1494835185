"""Notifies the people who run the business of what stopped, and of mail that waits for them, by a process of theirs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from threading import Event as Signal

from sqlalchemy import Connection, delete, func, select, update

from orchestrator.bootstrap import Application
from orchestrator.builtin.inbox import DeliveryState
from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.runs import Opening, Runs
from orchestrator.ledger.duplicates import DUPLICATED
from orchestrator.record.clock import moment, stamp
from orchestrator.record.news import Topic
from orchestrator.record.record import Record
from orchestrator.record.sql import insert_if_new
from orchestrator.record.tables import audit_event, inbox, intake_cursor
from orchestrator.record.tables import news as news_table
from orchestrator.record.trail import SYSTEM, Event, event_of
from orchestrator.settings import AlarmSettings

SOURCES = {Topic.STOPPED: "alarms", Topic.MAIL: "alarms:mail"}
"""Where the moments of the last notices are noted."""
ALARMING = frozenset({"connection.denied", "connection.down", "run.failed", DUPLICATED})
MOST = 100
"""Maximum events in one notice; the others follow in the next."""
LOOK_SECONDS = 2.0
"""How often is looked whether there is news."""
logger = logging.getLogger(__name__)


class Alarms:
    """Takes what is new in the audit trail, and starts a process with it.

    Args:
        record: Where the trail is.
        runs: Opens the runs.
        process: What is started; its input has the fields of a notice.
        settings: How often notices go out.
    """

    def __init__(self, record: Record, runs: Runs, process: ProcessDefinition, settings: AlarmSettings) -> None:
        self._record = record
        self._runs = runs
        self._process = process
        self._every = {
            Topic.STOPPED: timedelta(seconds=settings.every_seconds),
            Topic.MAIL: timedelta(seconds=settings.mail_every_seconds),
        }

    def notify(self) -> str | None:
        """Start the process with the news of one topic, if there is some and the last notice of it is old enough.

        What happened before the first call is left out.

        Returns:
            The id of its run; None if there is nothing to tell now.
        """
        with self._record.store.read() as tx:
            due = [topic for topic in Topic if self._is_due(tx, topic)]
        return next(filter(None, map(self._notify, due)), None)

    def _is_due(self, tx: Connection, topic: Topic) -> bool:
        """Tell whether there may be something to do: this is asked often, and costs no write transaction."""
        chosen = select(intake_cursor.c.cursor).where(intake_cursor.c.source == SOURCES[topic])
        last = tx.execute(chosen).scalar_one_or_none()
        if last is None:
            return True
        waits = select(news_table.c.event_id).where(news_table.c.topic == topic).limit(1)
        return self._is_old_enough(last, topic) and tx.execute(waits).first() is not None

    def _is_old_enough(self, last: str, topic: Topic) -> bool:
        return moment(last) <= self._record.clock() - self._every[topic]

    def _notify(self, topic: Topic) -> str | None:
        with self._record.store.write() as tx:
            mine = intake_cursor.c.source == SOURCES[topic]
            # Other workers wait here, and then see that this one was first.
            last = tx.execute(select(intake_cursor.c.cursor).where(mine).with_for_update()).scalar_one_or_none()
            if last is None:
                self._begin(tx, topic)
                return None
            news = self._take(tx, topic) if self._is_old_enough(last, topic) else []
            if not news:
                return None
            tx.execute(update(intake_cursor).where(mine).values(_at(self._record.clock())))
            return self._open(tx, topic, news)

    def _begin(self, tx: Connection, topic: Topic) -> None:
        tx.execute(delete(news_table).where(news_table.c.topic == topic))
        long_ago = _at(self._record.clock() - self._every[topic])
        insert_if_new(tx, intake_cursor, {"source": SOURCES[topic], **long_ago}, unique=["source"])

    def _take(self, tx: Connection, topic: Topic) -> list[Event]:
        """Take news off the list, oldest first."""
        taken: list[Event] = []
        chosen = select(audit_event).join(news_table, news_table.c.event_id == audit_event.c.event_id)
        chosen = chosen.where(news_table.c.topic == topic).order_by(audit_event.c.at, audit_event.c.event_id)
        while len(taken) < MOST and (rows := tx.execute(chosen.limit(MOST - len(taken))).all()):
            tx.execute(delete(news_table).where(news_table.c.event_id.in_([row.event_id for row in rows])))
            taken += [event for row in rows if self._is_worth_telling(event := event_of(row))]
        return taken

    def _is_worth_telling(self, event: Event) -> bool:
        """Leave out alarms about alarms, and runs that wait for a connection: its own event says why."""
        return event.context.process != self._process.name and event.data.get("error") != "AccessDenied"

    def _open(self, tx: Connection, topic: Topic, news: Sequence[Event]) -> str:
        notice = self._of_mail(tx, news) if topic is Topic.MAIL else _of_what_stopped(news)
        opening = Opening(
            definition=self._process,
            request=self._process.request.model_validate(notice),
            run_id=f"r-{sha256('/'.join(event.event_id for event in news).encode()).hexdigest()[:24]}",
            actor=SYSTEM,
        )
        self._runs.open(tx, opening)
        return opening.run_id

    def _of_mail(self, tx: Connection, news: Sequence[Event]) -> dict[str, object]:
        """Tell of mail without its sender and its subject: notices leave the house."""
        waiting = select(func.count()).select_from(inbox).where(inbox.c.state == DeliveryState.FOR_PERSON)
        return {
            "title": f"Mail for a person: {len(news)} new, {tx.execute(waiting).scalar_one()} in all",
            "lines": [self._line_of_mail(tx, event) for event in news],
            "severity": "warning",
        }

    def _line_of_mail(self, tx: Connection, event: Event) -> str:
        chain = self._record.trail.chain(tx, str(event.context.run_id))
        effect_id = event.context.effect_id
        intent = next(each for each in chain if (each.kind, each.context.effect_id) == ("effect.intent", effect_id))
        kept = intent.data["request"]
        return f"{_when(event)}, {kept['reason']}; see: orchestrator inbox show {kept['delivery']}"


def alarms_of(app: Application) -> Alarms:
    """Return the alarms as they are configured.

    Raises:
        ConfigurationError: They are not.
    """
    if app.settings.alarms is None:
        raise ConfigurationError("[alarms] process: is missing; name the process that tells people what stopped")
    return Alarms(app.record, app.runs, app.definition(app.settings.alarms.process), app.settings.alarms)


def notify_people(app: Application, stop: Signal, every_seconds: float = LOOK_SECONDS) -> None:
    """Start the process for alarms whenever there is news, until the worker stops."""
    while True:
        try:
            while run_id := alarms_of(app).notify():
                logger.info("Run %s notifies people", run_id)
        except OrchestratorError as exc:
            logger.warning("Alarms: %s", exc)
        except Exception as exc:  # noqa: BLE001 - the next round tries again; nothing was moved
            logger.error("Alarms: %s", type(exc).__name__)  # noqa: TRY400 - may name a person
        if stop.wait(every_seconds):
            return


def _at(last: datetime) -> dict[str, str]:
    return dict.fromkeys(("cursor", "since", "updated_at"), stamp(last))


def _of_what_stopped(news: Sequence[Event]) -> dict[str, object]:
    alarming = any(event.kind in ALARMING for event in news)
    calm = all(event.kind == "connection.working" for event in news)
    return {
        "title": _title(news),
        "lines": [_line(event) for event in news],
        "severity": "alarm" if alarming else "info" if calm else "warning",
    }


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
    return f"{_when(event)}, {what}{f': {reason}' if reason else ''}"


def _when(event: Event) -> str:
    return f"{event.at[:19].replace('T', ' ')} UTC"
