"""What a run is, who holds it, and how it is given back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orchestrator.kernel.run_states import ENDED, Cause, Mirror, RunState, advance
from orchestrator.record.clock import moment, stamp
from orchestrator.record.trail import Context


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as it stands in the store."""

    run_id: str
    process: str
    case_id: str | None
    subject_ref: str
    parent_run_id: str | None
    prefect_run_id: str | None
    state: RunState
    reason: str
    created_at: datetime
    due_at: datetime
    ended_at: datetime | None
    postponed: int
    fence: int
    deaths: int = 0
    """How many of its owners died since it last got on."""
    cancelled_by: str | None = None
    """Who wants it cancelled; it is, before its next step."""
    cancelled_by_auth: str | None = None

    def context(self, **about: Any) -> Context:
        """Return what an event of this run is about."""
        return Context(
            run_id=self.run_id, process=self.process, case_id=self.case_id, subject_ref=self.subject_ref, **about
        )


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a run: its owner, by the fencing token that it was leased with."""

    run_id: str
    owner: str
    fence: int

    def values(self) -> dict[str, Any]:
        """Return what the statements of the run store know it by."""
        return {"held_run": self.run_id, "held_by": self.owner, "held_fence": self.fence}


@dataclass(frozen=True, kw_only=True)
class Release:
    """How an owner gives its run back.

    Args:
        cause: ``FINISH``, ``FAIL``, ``PARK`` or ``POSTPONE``.
        at: When.
        mirror: What is left to show of it.
        reason: Why, for people.
        waits_for: The connection that keeps it from going on, if it is one.
        postponed: How often in a row it was postponed by now.
        due: When it goes on, if it is postponed, as ``due_in`` gave it.
    """

    cause: Cause
    at: datetime
    mirror: Mirror
    reason: str = ""
    waits_for: str | None = None
    postponed: int = 0
    due: Mapping[str, Any] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """Return what its statement sets."""
        values: dict[str, Any] = {"reason": self.reason, "mirror": self.mirror, "released_at": stamp(self.at)}
        if advance(RunState.RUNNING, self.cause) in ENDED:
            return values
        values |= {"waits_for": self.waits_for, "postponed": self.postponed}
        if not self.due:
            return values
        until = {name: self.due[name] for name in ("until_clock", "until_steady")}
        return {**values, **until, "next_due": self.due["due_at"]}


def run_of(row: Any) -> Run:
    """Return a row of the table as a run."""
    return Run(
        run_id=row.run_id,
        process=row.process,
        case_id=row.case_id,
        subject_ref=row.subject_ref,
        parent_run_id=row.parent_run_id,
        prefect_run_id=row.prefect_run_id,
        state=RunState(row.state),
        reason=row.reason,
        created_at=moment(row.created_at),
        due_at=moment(row.due_at),
        ended_at=moment(row.ended_at) if row.ended_at else None,
        postponed=row.postponed,
        fence=row.fence,
        deaths=row.deaths,
        cancelled_by=row.cancelled_by,
        cancelled_by_auth=row.cancelled_by_auth,
    )
