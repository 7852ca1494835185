"""Effects that are known to have happened twice: two attempts of one effect, and an answer to each.

A late answer moves nothing, because its attempt belongs to nobody any more. But it is kept, and together with the
outcome of another attempt, or with another late answer, it is an alarm to a person. Either may come first.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import Connection, select

from orchestrator.ledger.states import Cause
from orchestrator.plugins import DoubtClass
from orchestrator.record.tables import audit_event, effect
from orchestrator.record.tables import run as run_table
from orchestrator.record.trail import Draft, Event, Trail, event_of

LATE = "effect.late"
DUPLICATED = "effect.duplicated"
_COUNTS = frozenset({DoubtClass.PROBE, DoubtClass.NONE})
"""Of other classes, the second time changes nothing."""


def late_chain(run_id: str, fence: int) -> str:
    """Return the chain of what an owner reports after it has lost the run."""
    return f"alarm:{run_id}:{fence}"


def report_duplicate(tx: Connection, trail: Trail, about: Draft, *, fence: int, now: datetime) -> None:
    """Append an alarm if two attempts of an effect are known to have succeeded, in the caller's transaction.

    Args:
        tx: It holds the effect's row from here on, so that one of two reports at the same time sees the other.
        trail: Where the alarm goes.
        about: An event of this effect.
        fence: Of the owner that reports.
        now: When.
    """
    row = tx.execute(select(effect).where(effect.c.effect_id == about.context.effect_id).with_for_update()).one()
    if row.doubt not in _COUNTS:
        return
    successes = _successes(tx, trail, row.run_id, row.effect_id)
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


def _successes(tx: Connection, trail: Trail, run_id: str, effect_id: str) -> Iterator[Event]:
    """Yield the answers to attempts of an effect; what a look found belongs to no attempt for certain."""
    fences = tx.execute(select(run_table.c.fence).where(run_table.c.run_id == run_id)).scalar_one()
    chains = [late_chain(run_id, fence) for fence in range(1, fences + 1)]
    late = select(audit_event).where(audit_event.c.chain_id.in_(chains), audit_event.c.kind == LATE)
    outcomes = [event for event in trail.chain(tx, run_id) if event.kind == "effect.outcome"]
    for event in [*outcomes, *map(event_of, tx.execute(late))]:
        if event.context.effect_id == effect_id and event.data.get("via") == Cause.SUCCEED:
            yield event
