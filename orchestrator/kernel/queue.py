"""Which runs wait for a worker, and in which order it takes them.

A run waits when it is due, or when the lease of its owner has lapsed. Runs of one case never go on side by side, and
those that wait go on in the order in which they were opened. One that is not due yet holds no other one up.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
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
)

from orchestrator.kernel import run_store
from orchestrator.kernel.run_states import RunState
from orchestrator.kernel.run_times import CLOCK, NOW, Now, has_lapsed, is_due, is_left
from orchestrator.record.clock import moment, stamp
from orchestrator.record.compiled import Compiled
from orchestrator.record.tables import run

CLAIMS_LOCK = 0x636C61696D
"""PostgreSQL advisory lock: an arbitrary number that no other program is likely to choose."""

SUSPECT = 2
"""A run whose owners died so often in a row is executed alone among its like: it may be what kills them."""
SET_BACK = timedelta(seconds=1)
"""A wall clock that lost more than this was set."""

_OTHER = run.alias("other")
_UNDER_WAY = and_(_OTHER.c.state == RunState.RUNNING, not_(has_lapsed(_OTHER)))
_EARLIER = tuple_(_OTHER.c.created_at, _OTHER.c.run_id) < tuple_(run.c.created_at, run.c.run_id)
_SAME_CASE = and_(_OTHER.c.case_id == run.c.case_id, _OTHER.c.run_id != run.c.run_id)


@cache  # a worker knows the same processes all its life
def _oldest(processes: frozenset[str] | None) -> tuple[Compiled, Compiled]:
    """Make the statements that find what dead owners left behind, in no order, and what is due, oldest first.

    Apart, an index gives each of them, and nothing is sorted, however many wait.
    """

    def known(table: Any) -> ColumnElement[bool]:
        return true() if processes is None else or_(false(), *(table.c.process == name for name in sorted(processes)))

    waits_earlier = and_(or_(is_due(_OTHER), is_left(_OTHER)), _EARLIER, known(_OTHER))
    in_its_turn = or_(run.c.case_id.is_(None), ~exists().where(_SAME_CASE, or_(_UNDER_WAY, waits_earlier)))

    most_deaths: BindParameter[int] = bindparam("most_deaths", type_=BigInteger)

    def chosen(deaths: ColumnElement[int]) -> Any:
        wanted = (known(run), in_its_turn, deaths <= most_deaths)
        return select(run.c.run_id, deaths.label("deaths")).where(*wanted).limit(bindparam("most"))

    left_behind = chosen(run.c.deaths + 1).where(is_left(run))
    return Compiled(left_behind), Compiled(chosen(run.c.deaths).where(is_due(run)).order_by(run.c.due_at))


_HERE, _ELSEWHERE = run.c.until_clock == CLOCK, run.c.until_clock != CLOCK
_NEXT_DUE = Compiled(
    select(func.min(run.c.due_at).label("at")).where(run.c.state == RunState.READY, run.c.due_at > NOW)
)
_NEXT_LEFT = Compiled(
    select(
        func.min(case((_HERE, run.c.until_steady))).label("here"),
        func.min(case((_ELSEWHERE, run.c.lease_until))).label("elsewhere"),
    ).where(run.c.state == RunState.RUNNING, not_(has_lapsed(run)))
)
_POSTPONED = Compiled(
    select(run.c.run_id, run.c.due_at, run.c.until_steady).where(
        run.c.state == RunState.READY, run.c.due_at > NOW, run.c.until_clock == CLOCK
    )
)
_QUEUE_UP = select(func.pg_advisory_xact_lock(CLAIMS_LOCK))
_OTHERS = Compiled(
    select(run.c.run_id)
    .where(run.c.case_id == bindparam("case"), run.c.run_id != bindparam("id"), run.c.state == RunState.READY)
    .limit(1)
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


def queue_up(tx: Connection) -> None:
    """Let one worker at a time claim: two at once might take the same run, or runs of the same case."""
    if tx.dialect.name == "postgresql":
        tx.execute(_QUEUE_UP)


def restate_due(tx: Connection, now: Now) -> None:
    """Let no run wait longer than it was to because the wall clock was set back meanwhile."""
    for row in _POSTPONED.rows(tx, now.values()):
        due_at = now.zero + timedelta(microseconds=row.until_steady)
        if due_at < moment(row.due_at) - SET_BACK:
            run_store.restate_due(tx, row.run_id, due_at)


def others_wait(tx: Connection, case_id: str | None, run_id: str) -> bool:
    """Tell whether other runs of the case are ready: they may have waited for this one."""
    if case_id is None:
        return False
    return _OTHERS.row(tx, {"case": case_id, "id": run_id}) is not None
