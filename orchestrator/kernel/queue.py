"""Which runs wait for a worker, and how a worker takes them: the statements, each made once.

A run waits when it is due, or when the lease of its owner has lapsed. Runs of one case never go on side by side, and
those that wait go on in the order in which they were opened. One that is not due yet holds no other one up.

Whether a lease has lapsed, the steady clock says if the owner is on this machine, whatever becomes of the wall clock
meanwhile. Between machines only the wall clock can be compared.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    Text,
    and_,
    bindparam,
    case,
    exists,
    false,
    func,
    not_,
    or_,
    select,
    true,
    tuple_,
    update,
)

from orchestrator.record.clock import moment, stamp
from orchestrator.record.compiled import Compiled
from orchestrator.record.record import Record
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

SUSPECT = 2
"""A run whose owners died so often in a row is executed alone among its like: it may be what kills them."""
SET_BACK = timedelta(seconds=1)
"""A wall clock that lost more than this was set."""

_NOW: BindParameter[str] = bindparam("now", type_=Text)
_CLOCK: BindParameter[str] = bindparam("clock", type_=Text)
_STEADY: BindParameter[int] = bindparam("steady", type_=BigInteger)
_OTHER = run.alias("other")


@dataclass(frozen=True, kw_only=True)
class Now:
    """One moment, on both clocks."""

    wall: datetime
    clock: str
    steady: int

    def values(self) -> dict[str, Any]:
        """Return what the statements of this module know it by."""
        return {"now": stamp(self.wall), "clock": self.clock, "steady": self.steady}


def now_of(record: Record) -> Now:
    """Tell the time."""
    return Now(wall=record.clock(), clock=record.steady.name, steady=record.steady.read())


def lease_for(record: Record, span: timedelta) -> dict[str, Any]:
    """Return the columns of a run that belongs to its owner for so long."""
    return {"lease_until": stamp(record.clock() + span), **_until(record, span)}


def due_in(record: Record, span: timedelta = timedelta(0)) -> dict[str, Any]:
    """Return the columns of a run that is due when so much time has passed."""
    return {"due_at": stamp(record.clock() + span), **_until(record, span)}


def _until(record: Record, span: timedelta) -> dict[str, Any]:
    return {"until_clock": record.steady.name, "until_steady": record.steady.after(span)}


def _due(table: Any) -> ColumnElement[bool]:
    return and_(table.c.state == RunState.READY, table.c.due_at <= _NOW)


def _lapsed(table: Any) -> ColumnElement[bool]:
    here, elsewhere = table.c.until_clock == _CLOCK, table.c.until_clock != _CLOCK
    return or_(and_(here, table.c.until_steady < _STEADY), and_(elsewhere, table.c.lease_until < _NOW))


def left(table: Any = run) -> ColumnElement[bool]:
    """Tell whether a run's owner let its lease lapse, given the values of ``Now``."""
    return and_(table.c.state == RunState.RUNNING, _lapsed(table))


_UNDER_WAY = and_(_OTHER.c.state == RunState.RUNNING, not_(_lapsed(_OTHER)))
_EARLIER = tuple_(_OTHER.c.created_at, _OTHER.c.run_id) < tuple_(run.c.created_at, run.c.run_id)
_SAME_CASE = and_(_OTHER.c.case_id == run.c.case_id, _OTHER.c.run_id != run.c.run_id)


@cache  # a worker knows the same processes all its life
def _oldest(processes: frozenset[str] | None) -> tuple[Compiled, Compiled]:
    """Make the statements that find what dead owners left behind, in no order, and what is due, oldest first.

    Apart, an index gives each of them, and nothing is sorted, however many wait.
    """

    def known(table: Any) -> ColumnElement[bool]:
        return true() if processes is None else or_(false(), *(table.c.process == name for name in sorted(processes)))

    waits_earlier = and_(or_(_due(_OTHER), left(_OTHER)), _EARLIER, known(_OTHER))
    in_its_turn = or_(run.c.case_id.is_(None), ~exists().where(_SAME_CASE, or_(_UNDER_WAY, waits_earlier)))

    most_deaths: BindParameter[int] = bindparam("most_deaths", type_=BigInteger)

    def chosen(deaths: ColumnElement[int]) -> Any:
        wanted = (known(run), in_its_turn, deaths <= most_deaths)
        return select(run.c.run_id, deaths.label("deaths")).where(*wanted).limit(bindparam("most"))

    left_behind = chosen(run.c.deaths + 1).where(left(run))
    return Compiled(left_behind), Compiled(chosen(run.c.deaths).where(_due(run)).order_by(run.c.due_at))


_HERE, _ELSEWHERE = run.c.until_clock == _CLOCK, run.c.until_clock != _CLOCK
_NEXT_DUE = Compiled(
    select(func.min(run.c.due_at).label("at")).where(run.c.state == RunState.READY, run.c.due_at > _NOW)
)
_NEXT_LEFT = Compiled(
    select(
        func.min(case((_HERE, run.c.until_steady))).label("here"),
        func.min(case((_ELSEWHERE, run.c.lease_until))).label("elsewhere"),
    ).where(run.c.state == RunState.RUNNING, not_(_lapsed(run)))
)
_LEASED = {
    "state": RunState.RUNNING,
    "fence": run.c.fence + 1,
    "owner": bindparam("new_owner"),
    "deaths": run.c.deaths + case((run.c.state == RunState.RUNNING, 1), else_=0),
    **{name: bindparam(f"new_{name}") for name in ("lease_until", "until_clock", "until_steady")},
}
# Not every run that was seen as waiting still does: on PostgreSQL, one may have been acquired by its id meanwhile.
_CLAIM = Compiled(
    update(run).where(run.c.run_id == bindparam("id"), or_(_due(run), left(run))).values(_LEASED).returning(run)
)
_POSTPONED = Compiled(
    select(run.c.run_id, run.c.due_at, run.c.until_steady).where(
        run.c.state == RunState.READY, run.c.due_at > _NOW, run.c.until_clock == _CLOCK
    )
)
_RESTATE = Compiled(
    update(run)
    .where(run.c.run_id == bindparam("id"), run.c.state == RunState.READY)
    .values(due_at=bindparam("restated"))
)
_QUEUE_UP = select(func.pg_advisory_xact_lock(CLAIMS_LOCK))
_OTHERS = Compiled(
    select(run.c.run_id)
    .where(run.c.case_id == bindparam("case"), run.c.run_id != bindparam("id"), run.c.state == RunState.READY)
    .limit(1)
)
_ACQUIRE = Compiled(
    update(run)
    .where(
        run.c.run_id == bindparam("id"),
        run.c.process == bindparam("of_process"),
        or_(run.c.state == RunState.READY, left(run)),
    )
    .values(_LEASED)
    .returning(run)
)


def due(
    tx: Connection, now: Now, processes: Collection[str] | None, *, limit: int, most_deaths: int = sys.maxsize
) -> list[Any]:
    """Return the runs of these processes (of all, without any named) that wait: those left behind first.

    Args:
        tx: A transaction.
        now: The time.
        processes: Only theirs.
        limit: At most so many.
        most_deaths: None whose owners died more often than this in a row.
    """
    values = {**now.values(), "most": limit, "most_deaths": most_deaths}
    statements = _oldest(None if processes is None else frozenset(processes))
    return [row for statement in statements for row in statement.rows(tx, values)][:limit]


def in_turn(
    tx: Connection, now: Now, processes: Collection[str] | None, *, limit: int, held: Mapping[str, int]
) -> list[str]:
    """Return the runs that a program may take, in the order of ``due``.

    None that it executes itself: whatever the clocks say, it is not dead. And one suspect at a time: what kills its
    worker takes no other suspect with it, and so those who are innocent get on.

    Args:
        tx: A transaction.
        now: The time.
        processes: Only theirs.
        limit: At most so many.
        held: The runs that the program executes, and how often their owners died.
    """
    spared = SUSPECT - 1
    most_deaths = spared if has_suspect(held.values()) else sys.maxsize
    found = due(tx, now, processes, limit=limit + len(held), most_deaths=most_deaths)
    suspects = [row for row in found if row.deaths > spared]
    if len(suspects) > 1:  # those that must wait keep nobody else from its turn
        found = suspects[:1] + due(tx, now, processes, limit=limit + len(held), most_deaths=spared)
    return [row.run_id for row in found if row.run_id not in held][:limit]


def has_suspect(deaths: Iterable[int]) -> bool:
    """Tell whether one of these runs may be what killed its owners."""
    return any(each >= SUSPECT for each in deaths)


def next_due(tx: Connection, now: Now) -> datetime | None:
    """Return when another run will wait: it comes due, or a lease lapses."""
    due_at = _NEXT_DUE.row(tx, {"now": stamp(now.wall)}).at
    lapse = _NEXT_LEFT.row(tx, now.values())
    moments = [moment(written) for written in (due_at, lapse.elsewhere) if written]
    if lapse.here is not None:
        moments.append(now.wall + timedelta(microseconds=lapse.here - now.steady))
    return min(moments, default=None)


def take(tx: Connection, run_id: str, owner: str, *, now: Now, lease: Mapping[str, Any]) -> Any:
    """Lease a run that waits; return it as it is now, or None if it does not wait any more."""
    return _CLAIM.row(tx, {"id": run_id, **_leased(owner, now, lease)})


def acquire(tx: Connection, run_id: str, owner: str, process: str, *, now: Now, lease: Mapping[str, Any]) -> Any:
    """Lease one run that nobody owns, due or not; return it as it is now."""
    return _ACQUIRE.row(tx, {"id": run_id, "of_process": process, **_leased(owner, now, lease)})


def _leased(owner: str, now: Now, lease: Mapping[str, Any]) -> dict[str, Any]:
    return {**now.values(), "new_owner": owner, **{f"new_{name}": value for name, value in lease.items()}}


def queue_up(tx: Connection) -> None:
    """Let one worker at a time claim: two at once might take the same run, or runs of the same case."""
    if tx.dialect.name == "postgresql":
        tx.execute(_QUEUE_UP)


def restate_due(tx: Connection, now: Now) -> None:
    """Let no run wait longer than it was to because the wall clock was set back meanwhile."""
    zero = now.wall - timedelta(microseconds=now.steady)
    for row in _POSTPONED.rows(tx, now.values()):
        due_at = zero + timedelta(microseconds=row.until_steady)
        if due_at < moment(row.due_at) - SET_BACK:
            _RESTATE(tx, {"id": row.run_id, "restated": stamp(due_at)})


def others_wait(tx: Connection, case_id: str | None, run_id: str) -> bool:
    """Tell whether other runs of the case are ready: they may have waited for this one."""
    if case_id is None:
        return False
    return _OTHERS.row(tx, {"case": case_id, "id": run_id}) is not None
