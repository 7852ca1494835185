"""When a run is due, and when the lease of its owner lapses.

Whether a lease has lapsed, the steady clock says if the owner is on this machine, whatever becomes of the wall clock
meanwhile. Between machines only the wall clock can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, BindParameter, ColumnElement, Text, and_, bindparam, or_

from orchestrator.kernel.run_states import RunState
from orchestrator.record.clock import stamp
from orchestrator.record.record import Record

NOW: BindParameter[str] = bindparam("now", type_=Text)
CLOCK: BindParameter[str] = bindparam("clock", type_=Text)
_STEADY: BindParameter[int] = bindparam("steady", type_=BigInteger)


@dataclass(frozen=True, kw_only=True)
class Now:
    """One moment, on both clocks."""

    wall: datetime
    clock: str
    steady: int

    @property
    def zero(self) -> datetime:
        """When the steady clock read zero, by this wall clock."""
        return self.wall - timedelta(microseconds=self.steady)

    def values(self) -> dict[str, Any]:
        """Return what the conditions of this module know it by."""
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


def is_due(table: Any) -> ColumnElement[bool]:
    """Tell whether a run is ready and due, given the values of ``Now``."""
    return and_(table.c.state == RunState.READY, table.c.due_at <= NOW)


def has_lapsed(table: Any) -> ColumnElement[bool]:
    """Tell whether the lease of a run has lapsed, given the values of ``Now``."""
    here, elsewhere = table.c.until_clock == CLOCK, table.c.until_clock != CLOCK
    return or_(and_(here, table.c.until_steady < _STEADY), and_(elsewhere, table.c.lease_until < NOW))


def is_left(table: Any) -> ColumnElement[bool]:
    """Tell whether a run's owner let its lease lapse, given the values of ``Now``."""
    return and_(table.c.state == RunState.RUNNING, has_lapsed(table))
