"""Cancelling a run: between two steps, never in the middle of an effect."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from orchestrator.errors import NotRecorded
from orchestrator.kernel import question_store, run_queries, run_store
from orchestrator.kernel.resolution import effect_context
from orchestrator.kernel.run_times import now_of
from orchestrator.ledger import effect_store
from orchestrator.ledger.states import Cause, State, advance
from orchestrator.record.clock import stamp
from orchestrator.record.record import Record
from orchestrator.record.trail import Actor, Draft

GIVEN_UP: dict[State, tuple[Cause, ...]] = {
    State.PLANNED: (Cause.GIVE_UP,),
    State.ATTEMPTING: (Cause.DOUBT, Cause.ASK),  # its owner is dead
    State.IN_DOUBT: (Cause.ASK,),
    State.NEEDS_DECISION: (),
}
"""How an effect is left whose run goes no further: what surely did not happen is given up, a doubt is a person's."""


def cancel(record: Record, run_id: str, actor: Actor) -> bool:
    """Cancel a run: at once, or before its next step if somebody executes it. A failed one is closed by it.

    Args:
        record: Where it is written down.
        run_id: The run.
        actor: Who cancels it.

    Returns:
        Whether it is cancelled already.

    Raises:
        NotRecorded: There is no such run, or it is done or cancelled.
    """
    with record.store.write() as tx:
        if not run_store.ask_to_cancel(tx, run_id, actor):
            raise NotRecorded(f"run {run_id} is over, or was never opened; see: orchestrator runs")
        at_once = run_queries.is_unowned(tx, run_id, now_of(record))
        if at_once:
            end_cancelled(record, tx, run_id)
    return at_once


def close_failed(record: Record, tx: Connection, run_id: str, actor: Actor) -> bool:
    """Close a failed run that a person has dealt with, in the caller's transaction.

    Returns:
        False if it has not failed.
    """
    if not run_store.ask_to_close(tx, run_id, actor):
        return False
    end_cancelled(record, tx, run_id)
    return True


def end_cancelled(record: Record, tx: Connection, run_id: str) -> None:
    """End a run that somebody asked to cancel and that nobody executes, in the caller's transaction."""
    now, run = record.clock(), run_store.get(tx, run_id)
    actor = Actor(name=str(run.cancelled_by), auth=str(run.cancelled_by_auth))
    for each in effect_store.unfinished_of(tx, run_id):
        _leave(record, tx, each, actor, now)
    question_store.close_of_run(tx, run_id, now)
    context = run.context(prefect_run_id=run.prefect_run_id)
    record.trail.append_alone(tx, run_id, Draft(kind="run.cancelled", context=context, actor=actor), now)
    run_store.cancel(tx, run_id, f"cancelled by {actor.name}", now)


def _leave(record: Record, tx: Connection, row: Any, actor: Actor, now: datetime) -> None:
    state = State(row.state)
    for cause in GIVEN_UP[state]:
        state, kind = advance(state, cause)
        draft = Draft(kind=kind, context=effect_context(tx, row), data={"decision": cause}, actor=actor)
        record.trail.append_alone(tx, row.run_id, draft, now)
    effect_store.move(tx, row.effect_id, row.attempt, State(row.state), {"state": state, "updated_at": stamp(now)})
