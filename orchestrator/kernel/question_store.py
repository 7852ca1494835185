"""The table of questions to people. Whatever changes in it, changes here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, func, select, update

from orchestrator.kernel import run_queries
from orchestrator.kernel.run_states import RunState
from orchestrator.record.clock import stamp
from orchestrator.record.sql import insert_if_new
from orchestrator.record.tables import question

_UNANSWERED = question.c.answered_at.is_(None)


def ask(tx: Connection, row: Mapping[str, Any]) -> Row[Any]:
    """Add a question, unless it is there, and return it."""
    insert_if_new(tx, question, row, unique=["question_id"])
    return tx.execute(select(question).where(question.c.question_id == row["question_id"])).one()


def claim_answer(tx: Connection, question_id: str, at: datetime) -> bool:
    """Take it on oneself to answer a question; False if somebody else was first."""
    return _changed(tx, question.c.question_id == question_id, _UNANSWERED, answered_at=stamp(at))


def claim_deadline(tx: Connection, question_id: str, at: datetime) -> bool:
    """Note that the deadline of an open question has passed; False if somebody else did, or answered it."""
    mine = (question.c.question_id == question_id, question.c.overdue_at.is_(None))
    return _changed(tx, *mine, _UNANSWERED, overdue_at=stamp(at))


def note_answer(tx: Connection, question_id: str, event_id: str) -> None:
    """Note which event holds the answer."""
    _changed(tx, question.c.question_id == question_id, answer_event=event_id)


def close_of_run(tx: Connection, run_id: str, at: datetime) -> None:
    """Close the questions of a run that goes no further."""
    _changed(tx, question.c.run_id == run_id, _UNANSWERED, answered_at=stamp(at))


def find(tx: Connection, question_id: str) -> Row[Any] | None:
    """Return a question, or None."""
    return tx.execute(select(question).where(question.c.question_id == question_id)).one_or_none()


def find_open(tx: Connection, question_id: str) -> Row[Any] | None:
    """Return a question that waits, with the process and the case of its run, or None."""
    return tx.execute(_open().where(question.c.question_id == question_id)).one_or_none()


def open_of_parked(tx: Connection, run_id: str) -> Row[Any] | None:
    """Return the question of a parked run that waits, or None."""
    return tx.execute(_open(RunState.PARKED).where(question.c.run_id == run_id)).one_or_none()


def all_open(tx: Connection) -> Sequence[Row[Any]]:
    """Return the questions that wait, oldest first."""
    return tx.execute(_open().order_by(question.c.asked_at)).all()


def overdue(tx: Connection, now: datetime, limit: int) -> list[str]:
    """Return the questions of parked runs whose deadline has passed, and of which nobody has noted that."""
    passed = (question.c.due_at <= stamp(now), question.c.overdue_at.is_(None))
    late = _open(RunState.PARKED).where(*passed).order_by(question.c.due_at)
    return [row.question_id for row in tx.execute(late.limit(limit))]


def count_unanswered(tx: Connection) -> tuple[int, str | None]:
    """Return how many questions wait, and when the oldest of them was asked."""
    number, oldest = tx.execute(select(func.count(), func.min(question.c.asked_at)).where(_UNANSWERED)).one()
    return number, oldest


def count_overdue(tx: Connection, now: datetime) -> int:
    """Return how many questions wait whose deadline has passed."""
    late = select(func.count()).where(_UNANSWERED, question.c.due_at <= stamp(now))
    return int(tx.execute(late).scalar_one())


def _open(*states: RunState) -> Select[Any]:
    """Choose open questions of runs that have not ended, and that are in one of these states."""
    return run_queries.joined(select(question).where(_UNANSWERED), question.c.run_id, *states)


def _changed(tx: Connection, *which: ColumnElement[bool], **columns: str) -> bool:
    return tx.execute(update(question).where(*which).values(**columns)).rowcount == 1
