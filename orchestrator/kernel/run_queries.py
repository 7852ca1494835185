"""What others ask about runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, exists, func, or_, select

from orchestrator.kernel.run_model import Run, run_of
from orchestrator.kernel.run_states import ENDED, Mirror, RunState
from orchestrator.kernel.run_store import is_to_show
from orchestrator.kernel.run_times import Now, is_due, is_left
from orchestrator.record.sql import count_up_to
from orchestrator.record.tables import audit_event, run

_STOPPED = (RunState.PARKED, RunState.FAILED, RunState.CANCELLED)


def of_prefect(tx: Connection, prefect_run_id: str) -> Run | None:
    """Return the run that a Prefect flow run executes, if it was opened."""
    row = tx.execute(select(run).where(run.c.prefect_run_id == prefect_run_id)).one_or_none()
    return None if row is None else run_of(row)


def among(tx: Connection, run_ids: Collection[str]) -> dict[str, Run]:
    """Return those of these runs that are there, by their ids."""
    return {row.run_id: run_of(row) for row in tx.execute(select(run).where(run.c.run_id.in_(run_ids)))}


def newest(tx: Connection, *, state: RunState | None, subject_ref: str | None, limit: int) -> list[Run]:
    """Return the newest runs, newest first."""
    return [run_of(row) for row in tx.execute(_chosen(state, subject_ref).limit(limit))]


def count(tx: Connection, *, state: RunState | None, subject_ref: str | None, at_most: int) -> int:
    """Return how many runs ``newest`` finds, counted no further than told."""
    return count_up_to(tx, _chosen(state, subject_ref), at_most)


def parked(tx: Connection) -> Sequence[str]:
    """Return the runs that wait for a person, in the order in which they were opened."""
    chosen = select(run.c.run_id).where(run.c.state == RunState.PARKED)
    return tx.execute(chosen.order_by(run.c.created_at)).scalars().all()


def waited_for(tx: Connection) -> frozenset[str]:
    """Return everything that some run waits for."""
    return frozenset(tx.execute(select(run.c.waits_for).where(run.c.waits_for.is_not(None)).distinct()).scalars())


def parked_for(tx: Connection, what: str) -> list[Run]:
    """Return the parked runs that wait for this."""
    waiting = (run.c.waits_for == what, run.c.state == RunState.PARKED)
    return [run_of(row) for row in tx.execute(select(run).where(*waiting))]


def is_unowned(tx: Connection, run_id: str, now: Now) -> bool:
    """Tell whether nobody executes a run: it is not under way, or its owner let its lease lapse."""
    mine = select(run.c.run_id).where(run.c.run_id == run_id, or_(run.c.state != RunState.RUNNING, is_left(run)))
    return tx.execute(mine, now.values()).first() is not None


def without_events(tx: Connection) -> Sequence[str]:
    """Return the runs that have no chain."""
    has_events = exists().where(audit_event.c.chain_id == run.c.run_id)
    return tx.execute(select(run.c.run_id).where(~has_events)).scalars().all()


# ---------------------------------------------------------------------- the runs of a case, a delivery or a question


def has_stopped(tx: Connection, case_id: str, *, opener: str) -> bool:
    """Tell whether a run that serves the case, or the one that opened it, will not go on by itself."""
    mine = or_(run.c.case_id == case_id, run.c.run_id == opener)
    return tx.execute(select(run.c.run_id).where(mine, run.c.state.in_(_STOPPED)).limit(1)).first() is not None


def serves(case_id: str, *, besides: str) -> ColumnElement[bool]:
    """Tell whether another run of a case is neither done nor cancelled."""
    goes_on = run.c.state.not_in((RunState.DONE, RunState.CANCELLED))
    return exists().where(run.c.case_id == case_id, run.c.run_id != besides, goes_on)


def has_open(run_id: ColumnElement[Any], case_id: ColumnElement[Any], before: str) -> ColumnElement[bool]:
    """Tell whether a run, one that it started, or one of its case has not ended, or itself ended only lately."""
    related = or_(run.c.run_id == run_id, run.c.parent_run_id == run_id, run.c.case_id == case_id)
    lately = and_(run.c.run_id == run_id, run.c.ended_at >= before)
    return exists().where(related, or_(run.c.state.not_in(ENDED), lately))


def hold_ended(tx: Connection, run_ids: Iterable[str | None]) -> set[str]:
    """Return those of these runs that have ended; they stay so until the transaction ends."""
    theirs = select(run.c.run_id).where(run.c.run_id.in_(list(run_ids)), run.c.state.in_(ENDED))
    return set(tx.execute(theirs.with_for_update(read=True)).scalars())


def joined(chosen: Select[Any], run_id: ColumnElement[Any], *states: RunState) -> Select[Any]:
    """Add a run's process and case to what is chosen; only of runs that have not ended, and in one of these states."""
    wanted = (run.c.ended_at.is_(None), *((run.c.state.in_(states),) if states else ()))
    return chosen.add_columns(run.c.process, run.c.case_id).join(run, run.c.run_id == run_id).where(*wanted)


# ---------------------------------------------------------------------- what Prefect shows


def to_show(tx: Connection, now: datetime, limit: int) -> list[Run]:
    """Return the runs that Prefect is to be shown, oldest first."""
    chosen = select(run).where(is_to_show(now)).order_by(run.c.created_at).limit(limit)
    return [run_of(row) for row in tx.execute(chosen)]


def parked_and_shown(tx: Connection) -> list[Row[Any]]:
    """Return the ids of the runs that Prefect shows as waiting for a person, and of their flow runs, oldest first."""
    waiting = (run.c.state == RunState.PARKED, run.c.mirror == Mirror.SHOWN)
    shown = select(run.c.run_id, run.c.prefect_run_id).where(*waiting).order_by(run.c.created_at)
    return [row for row in tx.execute(shown) if row.prefect_run_id is not None]


def open_flow_runs(tx: Connection, limit: int) -> Sequence[str]:
    """Return the flow runs of the newest runs that have not ended and that nobody cancelled on the record."""
    shown = (run.c.state.not_in(ENDED), run.c.prefect_run_id.is_not(None), run.c.cancelled_by.is_(None))
    newest = select(run.c.prefect_run_id).where(*shown).order_by(run.c.created_at.desc()).limit(limit)
    return tx.execute(newest).scalars().all()


def open_among(tx: Connection, prefect_run_ids: Collection[str]) -> set[str]:
    """Return those of these flow runs whose run has not ended."""
    chosen = select(run.c.prefect_run_id).where(run.c.prefect_run_id.in_(prefect_run_ids), run.c.state.not_in(ENDED))
    return set(tx.execute(chosen).scalars())


# ---------------------------------------------------------------------- metrics


def count_unfinished(tx: Connection) -> Sequence[Row[Any]]:
    """Return how many runs are not done: process, state and number."""
    unfinished = run.c.state.in_([state for state in RunState if state is not RunState.DONE])
    counted = select(run.c.process, run.c.state, func.count()).where(unfinished)
    return tx.execute(counted.group_by(run.c.process, run.c.state)).all()


def count_done(tx: Connection) -> int:
    """Return how many runs are done."""
    return int(tx.execute(select(func.count()).where(run.c.state == RunState.DONE)).scalar_one())


def waiting_since(tx: Connection, now: Now) -> list[str | None]:
    """Return since when the oldest run that is due has been so, and the same of those whose owner died."""
    due = select(func.min(run.c.due_at)).where(is_due(run))
    left = select(func.min(run.c.lease_until)).where(is_left(run))
    return [tx.execute(statement, now.values()).scalar_one() for statement in (due, left)]


def count_to_show(tx: Connection) -> tuple[int, str | None]:
    """Return how many runs Prefect does not show as they are, and when the oldest of them ended or was opened."""
    since = func.coalesce(run.c.ended_at, run.c.created_at)
    number, oldest = tx.execute(select(func.count(), func.min(since)).where(run.c.mirror == Mirror.DUE)).one()
    return number, oldest


def _chosen(state: RunState | None, subject_ref: str | None) -> Select[Any]:
    chosen = select(run).order_by(run.c.created_at.desc())
    if state is not None:
        chosen = chosen.where(run.c.state == state)
    return chosen if subject_ref is None else chosen.where(run.c.subject_ref == subject_ref)
