"""Which runs wait for a worker, and how a worker takes them: the statements, each made once.

A run waits when it is due, or when the lease of its owner has lapsed. Runs of one case never go on side by side, and
those that wait go on in the order in which they were opened. One that is not due yet holds no other one up.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Text,
    and_,
    bindparam,
    exists,
    false,
    func,
    or_,
    select,
    true,
    tuple_,
    update,
)

from orchestrator.record.clock import moment, stamp
from orchestrator.record.prepared import Prepared
from orchestrator.record.tables import run


class RunState(StrEnum):
    """Where a run stands."""

    READY = "ready"
    """Waits for a worker, from ``due_at`` on."""
    RUNNING = "running"
    """Belongs to a worker, until its lease lapses."""
    PARKED = "parked"
    """Waits for a person."""
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


CLAIMS_LOCK = 0x636C61696D
"""PostgreSQL advisory lock: an arbitrary number that no other program is likely to choose."""

_NOW: BindParameter[str] = bindparam("now", type_=Text)
_OTHER = run.alias("other")


def _due(table: Any) -> ColumnElement[bool]:
    return and_(table.c.state == RunState.READY, table.c.due_at <= _NOW)


def _left(table: Any) -> ColumnElement[bool]:
    return and_(table.c.state == RunState.RUNNING, table.c.lease_until < _NOW)


_UNDER_WAY = and_(_OTHER.c.state == RunState.RUNNING, _OTHER.c.lease_until >= _NOW)
_EARLIER = tuple_(_OTHER.c.created_at, _OTHER.c.run_id) < tuple_(run.c.created_at, run.c.run_id)
_SAME_CASE = and_(_OTHER.c.case_id == run.c.case_id, _OTHER.c.run_id != run.c.run_id)


@cache  # a worker knows the same processes all its life
def _oldest(processes: frozenset[str] | None) -> tuple[Prepared, Prepared]:
    """Make the statements that find what dead owners left behind, in no order, and what is due, oldest first.

    Apart, an index gives each of them, and nothing is sorted, however many wait.
    """

    def known(table: Any) -> ColumnElement[bool]:
        return true() if processes is None else or_(false(), *(table.c.process == name for name in sorted(processes)))

    waits_earlier = and_(or_(_due(_OTHER), _left(_OTHER)), _EARLIER, known(_OTHER))
    in_its_turn = or_(run.c.case_id.is_(None), ~exists().where(_SAME_CASE, or_(_UNDER_WAY, waits_earlier)))

    chosen = select(run.c.run_id).where(known(run), in_its_turn).limit(bindparam("most"))
    return Prepared(chosen.where(_left(run))), Prepared(chosen.where(_due(run)).order_by(run.c.due_at))


_NEXT = (
    Prepared(select(func.min(run.c.due_at).label("at")).where(run.c.state == RunState.READY, run.c.due_at > _NOW)),
    Prepared(
        select(func.min(run.c.lease_until).label("at")).where(
            run.c.state == RunState.RUNNING, run.c.lease_until >= _NOW
        )
    ),
)
_LEASED = {
    "state": RunState.RUNNING,
    "fence": run.c.fence + 1,
    "owner": bindparam("new_owner"),
    "lease_until": bindparam("new_lease"),
}
# Not every run that was seen as waiting still does: on PostgreSQL, one may have been acquired by its id meanwhile.
_CLAIM = Prepared(
    update(run).where(run.c.run_id == bindparam("id"), or_(_due(run), _left(run))).values(_LEASED).returning(run)
)
_QUEUE_UP = select(func.pg_advisory_xact_lock(CLAIMS_LOCK))
_OTHERS = Prepared(
    select(run.c.run_id)
    .where(run.c.case_id == bindparam("case"), run.c.run_id != bindparam("id"), run.c.state == RunState.READY)
    .limit(1)
)
_ACQUIRE = Prepared(
    update(run)
    .where(
        run.c.run_id == bindparam("id"),
        run.c.process == bindparam("of_process"),
        or_(run.c.state == RunState.READY, _left(run)),
    )
    .values(_LEASED)
    .returning(run)
)


def due(tx: Connection, now: datetime, processes: Collection[str] | None, *, limit: int) -> list[str]:
    """Return the runs of these processes (of all, without any named) that wait: those left behind first."""
    values = {"now": stamp(now), "most": limit}
    statements = _oldest(None if processes is None else frozenset(processes))
    return [row.run_id for statement in statements for row in statement.rows(tx, values)][:limit]


def next_due(tx: Connection, now: datetime) -> datetime | None:
    """Return when another run will wait: it comes due, or a lease lapses."""
    moments = [chosen.row(tx, {"now": stamp(now)}).at for chosen in _NEXT]
    return min((moment(written) for written in moments if written), default=None)


def claim(
    tx: Connection, owner: str, processes: Collection[str] | None, *, limit: int, now: datetime, until: datetime
) -> list[Any]:
    """Lease runs that wait, in the order of ``due``; return them as they are now."""
    if tx.dialect.name == "postgresql":
        # One at a time: two that claim at once might take the same run, or runs of the same case.
        tx.execute(_QUEUE_UP)
    values = {"now": stamp(now), "new_owner": owner, "new_lease": stamp(until)}
    claimed = (_CLAIM.row(tx, {**values, "id": run_id}) for run_id in due(tx, now, processes, limit=limit))
    return [row for row in claimed if row is not None]


def acquire(tx: Connection, run_id: str, owner: str, process: str, *, now: datetime, until: datetime) -> Any:
    """Lease one run that nobody owns, due or not; return it as it is now."""
    values = {"id": run_id, "of_process": process, "now": stamp(now), "new_owner": owner, "new_lease": stamp(until)}
    return _ACQUIRE.row(tx, values)


def others_wait(tx: Connection, case_id: str | None, run_id: str) -> bool:
    """Tell whether other runs of the case are ready: they may have waited for this one."""
    if case_id is None:
        return False
    return _OTHERS.row(tx, {"case": case_id, "id": run_id}) is not None
