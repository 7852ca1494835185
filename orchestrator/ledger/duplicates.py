"""Effects that are known to have happened twice: two attempts of one effect, and an answer to each.

A late answer moves nothing, because its attempt belongs to nobody any more. But it is kept, and together with the
outcome of another attempt, or with another late answer, it is an alarm to a person. Either may come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from orchestrator.ledger import effect_store
from orchestrator.ledger.states import Cause
from orchestrator.plugins import DoubtClass
from orchestrator.record.tables import audit_event
from orchestrator.record.trail import Draft, Event, Trail, event_of

LATE = "effect.late"
DUPLICATED = "effect.duplicated"
_COUNTS = frozenset({DoubtClass.PROBE, DoubtClass.NONE})
"""Of other classes, the second time changes nothing."""


def late_chain(run_id: str, fence: int) -> str:
    """Return the chain of what an owner reports after it has lost the run."""
    return f"alarm:{run_id}:{fence}"


def report_duplicate(
    tx: Connection, trail: Trail, about: Draft, *, fence: int, newest_fence: Callable[[], int], now: datetime
) -> None:
    """Append an alarm if two attempts of an effect are known to have succeeded, in the caller's transaction.

    Args:
        tx: It holds the effect's row from here on, so that one of two reports at the same time sees the other.
        trail: Where the alarm goes.
        about: An event of this effect.
        fence: Of the owner that reports.
        newest_fence: Returns that of the owner that the run has by now.
        now: When.
    """
    row = effect_store.locked(tx, about.context.effect_id)
    if row.doubt not in _COUNTS:
        return
    successes = _successes(tx, trail, row, newest_fence())
    # An outcome that was recorded before attempts stood in it is that of the last one.
    happened = {event.data.get("attempt", row.attempt): event.event_id for event in successes}
    if len(happened) > 1:
        attempts = " and ".join(str(attempt) for attempt in sorted(happened))
        data = {
            "attempts": {str(attempt): event_id for attempt, event_id in sorted(happened.items())},
            "reason": f"attempts {attempts} of {row.capability}.{row.operation} both happened; undo one, and compare "
            "their receipts: orchestrator effects twice",
        }
        alarm = Draft(kind=DUPLICATED, context=about.context, data=data)
        trail.append_alone(tx, late_chain(row.run_id, fence), alarm, now)


def _successes(tx: Connection, trail: Trail, effect: Any, newest_fence: int) -> Iterator[Event]:
    """Yield the answers to attempts of an effect; what a look found belongs to no attempt for certain."""
    chains = [late_chain(effect.run_id, fence) for fence in range(1, newest_fence + 1)]
    late = select(audit_event).where(audit_event.c.chain_id.in_(chains), audit_event.c.kind == LATE)
    outcomes = [event for event in trail.chain(tx, effect.run_id) if event.kind == "effect.outcome"]
    for event in [*outcomes, *map(event_of, tx.execute(late))]:
        if event.context.effect_id == effect.effect_id and event.data.get("via") == Cause.SUCCEED:
            yield event
