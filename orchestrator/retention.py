"""Deletes the bodies of deliveries that nobody needs any more; the record of what happened is kept.

A batch is one short transaction with its own audit event, and holds rows that nobody else holds, so that
customers never wait for it and several workers may delete at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, func, select, update

from orchestrator.builtin.inbox import DeliveryState
from orchestrator.kernel import run_queries
from orchestrator.record.clock import stamp
from orchestrator.record.record import Record
from orchestrator.record.tables import inbox
from orchestrator.record.trail import Context, Draft

BATCH_ROWS = 50
BATCH_BYTES = 4_000_000
"""SQLite overwrites what is deleted: a batch of large mails must not hold up other writers."""
DEALT_WITH = (DeliveryState.SETTLED, DeliveryState.STARTED, DeliveryState.DISCARDED)
WAITING = tuple(state for state in DeliveryState if state not in DEALT_WITH)


@dataclass(frozen=True, kw_only=True)
class Vacuumed:
    """What a batch deleted."""

    deliveries: int = 0
    size: int = 0
    """In bytes."""


def audit_vacuum(record: Record, tx: Connection, kind: str, data: dict[str, Any]) -> None:
    """Record what was deleted, in the transaction that deletes it if there is one: a chain for each day."""
    now = record.clock()
    draft = Draft(kind=kind, context=Context(), data=data)
    record.trail.append_alone(tx, f"retention:{now:%Y-%m-%d}", draft, now)


class InboxRetention:
    """Deletes old bodies.

    A delivery that waits for a person is left alone, and one whose run, a run that this one started, or another
    run of the same case has not ended.

    Args:
        record: Where deliveries are stored.
        days: Bodies are kept for so long after they were taken in, and after their run ended.
    """

    def __init__(self, record: Record, days: int) -> None:
        self._record = record
        self._days = days
        self.rule = f"[retention] inbox_days = {days}"

    def vacuum(self) -> Vacuumed:
        """Delete one batch of bodies, oldest first; nothing is left to delete if it deleted none."""
        now = self._record.clock()
        before = stamp(now - timedelta(days=self._days))
        with self._record.store.write() as tx:
            rows = _within(BATCH_BYTES, self._chosen(tx, before))
            if not rows:
                return Vacuumed()
            emptied = {"nonce": None, "ciphertext": None, "vacuumed_at": stamp(now), "vacuumed_by": self.rule}
            these = inbox.c.delivery.in_([row.delivery for row in rows])
            tx.execute(update(inbox).where(these).values(emptied))
            done = Vacuumed(deliveries=len(rows), size=sum(row.size for row in rows))
            data = {"rule": self.rule, "deliveries": done.deliveries, "bytes": done.size, "accepted_before": before}
            audit_vacuum(self._record, tx, "inbox.vacuumed", data)
        return done

    def _chosen(self, tx: Connection, before: str) -> list[Any]:
        """Return deliveries and their sizes; they and their runs are held until the transaction ends."""
        size = func.length(inbox.c.ciphertext).label("size")
        chosen = (
            select(inbox.c.delivery, inbox.c.run_id, size)
            .where(inbox.c.vacuumed_at.is_(None), inbox.c.accepted_at < before, inbox.c.state.not_in(WAITING))
            .where(~run_queries.has_open(inbox.c.run_id, inbox.c.case_id, before))
            .order_by(inbox.c.accepted_at)
            .limit(BATCH_ROWS)
            .with_for_update(skip_locked=True)
        )
        rows = list(tx.execute(chosen))
        ended = run_queries.hold_ended(tx, [row.run_id for row in rows])
        return [row for row in rows if row.run_id is None or row.run_id in ended]


def _within(limit: int, rows: list[Any]) -> list[Any]:
    """Return the first rows that do not hold more bytes together, and one at least."""
    chosen, total = rows[:1], sum(row.size for row in rows[:1])
    for row in rows[1:]:
        total += row.size
        if total > limit:
            break
        chosen.append(row)
    return chosen
