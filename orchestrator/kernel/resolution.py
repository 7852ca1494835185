"""What a person says of an effect that nobody else can settle, and of a run that stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from orchestrator.capabilities import Receipt
from orchestrator.errors import NotRecorded, RecordError
from orchestrator.kernel import run_store
from orchestrator.kernel.codec import forms_of, opened
from orchestrator.kernel.run_states import RunState
from orchestrator.kernel.run_times import due_in
from orchestrator.ledger import effect_store
from orchestrator.ledger.duplicates import DUPLICATED
from orchestrator.ledger.states import Cause, State, advance
from orchestrator.plugins import Capabilities
from orchestrator.record.clock import stamp
from orchestrator.record.record import Record
from orchestrator.record.tables import audit_event
from orchestrator.record.trail import CHAIN, Actor, Context, Draft, Event, event_of


@dataclass(frozen=True, kw_only=True)
class OpenEffect:
    """An effect that has not come to its outcome."""

    effect_id: str
    run_id: str
    step: int
    operation: str
    connection: str
    state: State
    doubt: str
    attempt: int
    updated_at: str


def open_effects(record: Record) -> list[OpenEffect]:
    """Return the effects that are in doubt, that wait for a person, or that are under way; oldest first."""
    with record.store.read() as tx:
        return [_open_effect(row) for row in effect_store.unfinished(tx)]


@dataclass(frozen=True, kw_only=True)
class Happened:
    """One of the two times that an effect happened."""

    effect_id: str
    run_id: str
    operation: str
    connection: str
    attempt: int
    at: str
    answer: Any
    """As recorded; private values are commitments unless they were asked for."""


def happened_twice(record: Record, *, private: bool = False) -> list[Happened]:
    """Return every time of the effects that are known to have happened twice; oldest first.

    Args:
        record: Where it stands.
        private: Decrypt the receipts.
    """
    alarms = select(audit_event).where(audit_event.c.kind == DUPLICATED).order_by(audit_event.c.at)
    with record.store.read() as tx:
        found = {
            event_id: int(attempt)
            for row in tx.execute(alarms)
            for attempt, event_id in event_of(row).data["attempts"].items()
        }
        times = select(audit_event).where(audit_event.c.event_id.in_(found))
        events = [event_of(row) for row in tx.execute(times.order_by(audit_event.c.effect_id, audit_event.c.at))]
        values = record.trail.private_values(tx, sorted(found)) if private else None
    return [_happened(event, found[event.event_id], values) for event in events]


def settle(record: Record, capabilities: Capabilities, effect_id: str, decision: Cause, actor: Actor) -> None:
    """Write down what a person decided about an effect, and let its run go on.

    Args:
        record: Where it is written down.
        capabilities: Those that plug-ins bring now.
        effect_id: The effect.
        decision: ``HAPPENED``, ``RETRY`` or ``GIVE_UP``.
        actor: Who decided.

    Raises:
        NotRecorded: No such effect.
        RecordError: It does not wait for a decision, or this decision does not fit it.
    """
    with record.store.write() as tx:
        row = effect_store.find(tx, effect_id)
        if row is None:
            raise NotRecorded(f"no effect {effect_id}; list them with: orchestrator effects")
        if row.state != State.NEEDS_DECISION:
            raise RecordError(f"effect {effect_id} is {row.state}: it does not wait for a decision")
        if decision is Cause.HAPPENED:
            _refuse_without_receipt(capabilities, row)
        state, kind = advance(State(row.state), decision)
        now = record.clock()
        columns = {"state": state, "updated_at": stamp(now)}
        effect_store.move(tx, effect_id, row.attempt, State.NEEDS_DECISION, columns)
        _wake(record, tx, row, decision)
        draft = Draft(kind=kind, context=effect_context(tx, row), data={"decision": decision}, actor=actor)
        record.trail.append_alone(tx, row.run_id, draft, now)


def _wake(record: Record, tx: Connection, row: Any, decision: Cause) -> None:
    """Let the run go on; a cancelled one stays as it is."""
    if run_store.get(tx, row.run_id).state is not RunState.CANCELLED:
        run_store.wake(tx, row.run_id, due_in(record))
    elif decision is Cause.RETRY:
        raise RecordError(f"run {row.run_id} was cancelled: only --happened or --give-up can settle its effects")


def _refuse_without_receipt(capabilities: Capabilities, row: Any) -> None:
    if row.capability not in capabilities:
        raise RecordError(
            f"no plug-in brings {row.capability} now, so it is not known what its effects answer with: install the one "
            "that does, or settle with --retry or --give-up"
        )
    form = forms_of(capabilities[row.capability])[row.operation]
    if not form.answers_with(Receipt):
        raise RecordError(f"{form.name} answers with more than a receipt: only --retry or --give-up can settle it")


def effect_context(tx: Connection, row: Any) -> Context:
    """Return what an event about this effect is about."""
    run = run_store.get(tx, row.run_id)
    mine = (event_of(each).context for each in CHAIN.rows(tx, {"chain": row.run_id}) if each.effect_id == row.effect_id)
    return run.context(
        prefect_run_id=run.prefect_run_id,
        step=row.step,
        capability=row.capability,
        operation=row.operation,
        connection=row.connection,
        effect_id=row.effect_id,
        title=next((context.title for context in mine), None),
    )


def _happened(event: Event, attempt: int, values: dict[str, Any] | None) -> Happened:
    context, answer = event.context, event.data["answer"]
    return Happened(
        effect_id=str(context.effect_id),
        run_id=str(context.run_id),
        operation=f"{context.capability}.{context.operation}",
        connection=str(context.connection),
        attempt=attempt,
        at=event.at,
        answer=answer if values is None else opened(answer, values),
    )


def _open_effect(row: Any) -> OpenEffect:
    return OpenEffect(
        effect_id=row.effect_id,
        run_id=row.run_id,
        step=row.step,
        operation=f"{row.capability}.{row.operation}",
        connection=row.connection,
        state=State(row.state),
        doubt=row.doubt,
        attempt=row.attempt,
        updated_at=row.updated_at,
    )
