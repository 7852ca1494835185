"""Cases: a customer's matter, across runs and messages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from orchestrator.kernel import run_queries
from orchestrator.record.clock import moment, stamp
from orchestrator.record.compiled import Compiled
from orchestrator.record.sql import insert_if_new
from orchestrator.record.tables import customer_case
from orchestrator.record.vault import Vault

QUIET = timedelta(days=14)
"""A case that was answered so long ago is closed by the next message, which opens a new one."""

_OPEN_CASE = Compiled(
    select(customer_case).where(customer_case.c.lookup == bindparam("key"), customer_case.c.closed_at.is_(None))
)
_CHANGE = Compiled(update(customer_case).where(customer_case.c.case_id == bindparam("case")))


@dataclass(frozen=True, kw_only=True)
class Case:
    """An open case."""

    case_id: str
    subject_ref: str
    opened_by: str
    answered_at: datetime | None


def open_or_join(tx: Connection, vault: Vault, key: str, *, opened_by: str, now: datetime) -> Case:
    """Return the open case with this key, or open one.

    Args:
        tx: A write transaction.
        vault: Hides the key.
        key: What the case is known by, for example an address.
        opened_by: The effect or run that opens it; asking again with the same finds the same case.
        now: The present.
    """
    lookup = vault.lookup(key)
    row = _open_case(tx, lookup)
    if row is not None and row.answered_at and moment(row.answered_at) < now - QUIET and row.opened_by != opened_by:
        close(tx, row.case_id, now)
        row = None
    if row is None:
        new = {
            "case_id": f"c-{sha256(f'{lookup}/{opened_by}'.encode()).hexdigest()[:24]}",
            "lookup": lookup,
            "subject_ref": vault.subject(tx, key, now),
            "opened_at": stamp(now),
            "opened_by": opened_by,
        }
        if insert_if_new(tx, customer_case, new, unique=["lookup"], where="closed_at IS NULL"):
            return Case(case_id=new["case_id"], subject_ref=new["subject_ref"], opened_by=opened_by, answered_at=None)
        row = _open_case(tx, lookup)  # another transaction was first
    return _case(row)


def served(tx: Connection, case_id: str, run_id: str, now: datetime, *, answered: bool) -> None:
    """Note that a run of the case has come to its end.

    Without an answer the case is closed, so that the next message is served like a first one, unless the case was
    answered before or another run of it is not over.
    """
    if answered:
        _CHANGE(tx, {"case": case_id, "answered_at": stamp(now)})
        return
    unanswered = (customer_case.c.case_id == case_id, customer_case.c.answered_at.is_(None))
    goes_on = run_queries.serves(case_id, besides=run_id)
    tx.execute(update(customer_case).where(*unanswered, ~goes_on).values(closed_at=stamp(now)))


def close(tx: Connection, case_id: str, now: datetime) -> None:
    """Close a case: the next message opens a new one."""
    _CHANGE(tx, {"case": case_id, "closed_at": stamp(now)})


def subject_of(tx: Connection, case_id: str) -> str:
    """Return whose case it is."""
    chosen = select(customer_case.c.subject_ref).where(customer_case.c.case_id == case_id)
    return str(tx.execute(chosen).scalar_one())


def _open_case(tx: Connection, lookup: str) -> Any:
    return _OPEN_CASE.row(tx, {"key": lookup})


def _case(row: Any) -> Case:
    return Case(
        case_id=row.case_id,
        subject_ref=row.subject_ref,
        opened_by=row.opened_by,
        answered_at=moment(row.answered_at) if row.answered_at else None,
    )
