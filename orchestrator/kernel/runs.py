"""Runs: one execution of a process each, with one owner at a time."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection, Select, bindparam, select, update

from orchestrator.capabilities import SEAL
from orchestrator.errors import NotRecorded, RecordError
from orchestrator.kernel import cases, queue
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.queue import RunState
from orchestrator.record.clock import moment, stamp
from orchestrator.record.compiled import Compiled
from orchestrator.record.record import Record
from orchestrator.record.sql import count_up_to, insert_if_new
from orchestrator.record.tables import run
from orchestrator.record.trail import Actor, Context, Draft, Head, Sealer
from orchestrator.record.wakeup import wake_on_commit

__all__ = [
    "LEASE",
    "ClaimResult",
    "Mirror",
    "Opening",
    "Run",
    "RunState",
    "Runs",
    "new_run_id",
    "waits_for_process",
    "wake_parked",
]

LEASE = timedelta(seconds=60)
"""A run belongs to its owner for so long after the owner's last commit, unless ``[worker] lease_seconds`` says else."""

_GET = Compiled(select(run).where(run.c.run_id == bindparam("id")))


class Mirror(StrEnum):
    """Whether Prefect shows a run as it is."""

    NONE = "none"
    """There is nothing to show yet, or Prefect executes the run and knows by itself."""
    DUE = "due"
    SHOWN = "shown"


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


@dataclass(frozen=True, kw_only=True)
class Opening:
    """A run to open.

    Args:
        definition: The process.
        request: Its input.
        run_id: The run's id; opening the same one again changes nothing.
        actor: Who starts it, and how that was proven.
        subject_ref: Whose matter it is, if that is known already.
        case_id: The case it serves; without one, the process tells from the input.
        parent_run_id: The run that starts it.
        prefect_run_id: The Prefect flow run that executes it.
        due_at: When it is to be executed, if later.
        before: Events that come first in its chain.
        reserved: True if the caller executes it at once: then workers leave it alone for a while.
    """

    definition: ProcessDefinition
    request: BaseModel
    run_id: str
    actor: Actor
    subject_ref: str | None = None
    case_id: str | None = None
    parent_run_id: str | None = None
    prefect_run_id: str | None = None
    due_at: datetime | None = None
    before: Sequence[Draft] = ()
    reserved: bool = False


@dataclass(frozen=True, kw_only=True)
class ClaimResult:
    """What a worker took.

    Args:
        runs: The runs; they are its own now.
        next_due: When another run will wait for a worker: it comes due, or the lease of its owner lapses.
    """

    runs: list[Run]
    next_due: datetime | None
    spared: bool = False
    """Whether others may have been left alone because a suspect is executed here."""


def wake_parked(tx: Connection, run_id: str, due: Mapping[str, Any]) -> None:
    """Let a parked run go on, because a person settled what it waits for.

    Args:
        tx: The caller's transaction.
        run_id: The run.
        due: When, as ``due_in`` gave it.

    Raises:
        RecordError: The run is not parked (yet): woken now, it would park itself right after, unheard.
    """
    parked = (run.c.run_id == run_id, run.c.state == RunState.PARKED)
    ready = {"state": RunState.READY, "reason": "", **due, "postponed": 0, "deaths": 0}
    if tx.execute(update(run).where(*parked).values(**ready)).rowcount != 1:
        raise RecordError(f"run {run_id} is under way just now; try again in a moment")
    wake_on_commit(tx)


def waits_for_process(name: str) -> str:
    """Return what a run waits for whose process cannot be executed; no connection has such a name."""
    return f"process:{name}"


def new_run_id() -> str:
    """Return an id for a run that nothing else names."""
    return f"r-{secrets.token_hex(12)}"


class Runs:
    """Opens, leases and finds runs.

    Args:
        record: Where everything is written down.
        lease: A run belongs to its owner for so long after the owner's last commit.
    """

    def __init__(self, record: Record, *, lease: timedelta = LEASE) -> None:
        self._record = record
        self.lease = lease
        self._zero: datetime | None = None
        """When the steady clock read zero, by the wall clock as it was last seen."""

    def open(self, tx: Connection, opening: Opening) -> bool:
        """Open a run, ready to be executed, in the caller's transaction.

        Returns:
            False if the run was there already.
        """
        if _GET.row(tx, {"id": opening.run_id}) is not None:
            return False
        now = self._record.clock()
        subject_ref, case_id = self._whose(tx, opening, now)
        row = {
            "run_id": opening.run_id,
            "process": opening.definition.name,
            "case_id": case_id,
            "subject_ref": subject_ref,
            "parent_run_id": opening.parent_run_id,
            "prefect_run_id": opening.prefect_run_id,
            "state": RunState.READY,
            "created_at": stamp(now),
            **self._due(opening.reserved),
        }
        if opening.due_at is not None:  # a promise: it is kept by the wall clock alone
            row |= {"due_at": stamp(opening.due_at), "until_clock": ""}
        if not insert_if_new(tx, run, row, unique=["run_id"]):
            return False
        draft = _opened(opening, subject_ref, case_id)
        self._record.trail.append(tx, opening.run_id, Head(), [*opening.before, draft], now)
        if not opening.reserved:
            wake_on_commit(tx)
        return True

    def acquire(self, run_id: str, owner: str, *, process: str) -> Run | None:
        """Lease a run that is not finished and that nobody owns.

        Returns:
            The run with its new fence, or None if it is owned, finished or waits for a person, or is
            one of another process.
        """
        with self._record.store.write() as tx:
            now, lease = queue.now_of(self._record), queue.lease_for(self._record, self.lease)
            row = queue.acquire(tx, run_id, owner, process, now=now, lease=lease)
        return None if row is None else _run(row)

    def claim(
        self,
        owner: str,
        *,
        limit: int,
        processes: Collection[str] | None = None,
        held: Mapping[str, int] = MappingProxyType({}),
    ) -> ClaimResult:
        """Lease runs that wait for a worker.

        Args:
            owner: Whose they are to be.
            limit: At most so many.
            processes: Only runs of these processes: others wait for a worker that knows them.
            held: The runs that the owner executes already, and how often their owners died.

        Returns:
            The runs with their new fences, in the order of ``due``, and when another one will wait.
        """
        # A power cut that undoes the claim ends its owner as well, or comes before anything was done on its strength:
        # the first intent is durable, and everything before it with it.
        with self._record.store.write(durable=False) as tx:
            queue.queue_up(tx)
            now, lease = queue.now_of(self._record), queue.lease_for(self._record, self.lease)
            self._see_to_the_clock(tx, now)
            chosen = queue.in_turn(tx, now, processes, limit=limit, held=held)
            rows = [queue.take(tx, run_id, owner, now=now, lease=lease) for run_id in chosen]
            next_due = queue.next_due(tx, now)
        taken = [_run(row) for row in rows if row is not None]
        spared = queue.has_suspect([*held.values(), *(each.deaths for each in taken)])
        return ClaimResult(runs=taken, next_due=next_due, spared=spared)

    def _see_to_the_clock(self, tx: Connection, now: queue.Now) -> None:
        zero = now.wall - timedelta(microseconds=now.steady)
        if self._zero is None or zero < self._zero - queue.SET_BACK:
            queue.restate_due(tx, now)
        self._zero = zero

    def due(self, *, limit: int, processes: Collection[str] | None = None) -> list[str]:
        """Return the runs that wait for a worker: those whose owner died, and those that are due, oldest first.

        Of a case whose run is under way, or waits longer, none.

        Args:
            limit: At most so many.
            processes: Only runs of these processes: others wait for a worker that knows them.
        """
        with self._record.store.read() as tx:
            rows = queue.due(tx, queue.now_of(self._record), processes, limit=limit)
            return [row.run_id for row in rows]

    def resume(self, run_id: str, actor: Actor, *, reserved: bool = False) -> None:
        """Make a parked or failed run ready again, on a person's word.

        Args:
            run_id: The run.
            actor: Who says so.
            reserved: True if the caller executes it at once: then workers leave it alone for a while.

        Raises:
            NotRecorded: No such run is parked or failed.
        """
        now = self._record.clock()
        ready = {"state": RunState.READY, "reason": "", "ended_at": None, "postponed": 0, "deaths": 0}
        ready |= self._due(reserved)
        with self._record.store.write() as tx:
            stopped = run.c.state.in_([RunState.PARKED, RunState.FAILED])
            found = tx.execute(update(run).where(run.c.run_id == run_id, stopped).values(**ready, cancelled_by=None))
            if found.rowcount != 1:
                raise NotRecorded(f"run {run_id} is not parked and has not failed; see: orchestrator runs")
            record = self.get(tx, run_id)
            context = Context(
                run_id=run_id, process=record.process, case_id=record.case_id, subject_ref=record.subject_ref
            )
            self._record.trail.append_alone(tx, run_id, Draft(kind="run.resumed", context=context, actor=actor), now)
            if not reserved:
                wake_on_commit(tx)

    def waited_for(self) -> frozenset[str]:
        """Return everything that some run waits for: connections, and what ``waits_for_process`` returns."""
        with self._record.store.read() as tx:
            return frozenset(
                tx.execute(select(run.c.waits_for).where(run.c.waits_for.is_not(None)).distinct()).scalars()
            )

    def wake_waiting_for(self, tx: Connection, what: str) -> int:
        """Let the runs go on that a connection, or their process, kept from it, in the caller's transaction.

        Returns:
            How many.
        """
        now = self._record.clock()
        kept = (run.c.waits_for == what, run.c.state.in_([RunState.READY, RunState.PARKED]))
        parked = tx.execute(select(run).where(*kept, run.c.state == RunState.PARKED)).all()
        ready = {"state": RunState.READY, "reason": "", **self._due(), "waits_for": None}
        woken = tx.execute(update(run).where(*kept).values(ready)).rowcount
        for row in parked:
            context = Context(run_id=row.run_id, process=row.process, case_id=row.case_id, subject_ref=row.subject_ref)
            resumed = Draft(kind="run.resumed", context=context, data={"waited_for": what})
            self._record.trail.append_alone(tx, row.run_id, resumed, now)
        if woken:
            wake_on_commit(tx)
        return woken

    def get(self, tx: Connection, run_id: str) -> Run:
        """Return a run.

        Raises:
            NotRecorded: No such run.
        """
        row = _GET.row(tx, {"id": run_id})
        if row is None:
            raise NotRecorded(f"no run {run_id}; list them with: orchestrator runs")
        return _run(row)

    def of_prefect(self, prefect_run_id: str) -> Run | None:
        """Return the run that a Prefect flow run executes, if it was opened."""
        with self._record.store.read() as tx:
            row = tx.execute(select(run).where(run.c.prefect_run_id == prefect_run_id)).one_or_none()
        return None if row is None else _run(row)

    def attach(self, run_id: str, prefect_run_id: str) -> None:
        """Note which Prefect flow run shows this run."""
        with self._record.store.write() as tx:
            tx.execute(update(run).where(run.c.run_id == run_id).values(prefect_run_id=prefect_run_id))

    def listed(self, *, state: RunState | None = None, subject_ref: str | None = None, limit: int) -> list[Run]:
        """Return the newest runs, newest first."""
        with self._record.store.read() as tx:
            return [_run(row) for row in tx.execute(_chosen(state, subject_ref).limit(limit))]

    def count(self, *, state: RunState | None = None, subject_ref: str | None = None, at_most: int) -> int:
        """Return how many runs ``listed`` finds, counted no further than told."""
        with self._record.store.read() as tx:
            return count_up_to(tx, _chosen(state, subject_ref), at_most)

    def _due(self, reserved: bool = False) -> dict[str, Any]:
        """Return when a run is due that was made ready now; workers leave a reserved one alone for a while."""
        return queue.due_in(self._record, self.lease if reserved else timedelta(0))

    def _whose(self, tx: Connection, opening: Opening, now: datetime) -> tuple[str, str | None]:
        if opening.case_id is not None:
            return cases.subject_of(tx, opening.case_id), opening.case_id
        if opening.definition.case_key is not None:
            key = opening.definition.case_key(opening.request)
            case = cases.open_or_join(tx, self._record.vault, key, opened_by=opening.run_id, now=now)
            return case.subject_ref, case.case_id
        return opening.subject_ref or self._record.vault.subject(tx, None, now), None


def _opened(opening: Opening, subject_ref: str, case_id: str | None) -> Draft:
    sealer = Sealer()
    return Draft(
        kind="run.opened",
        actor=opening.actor,
        context=Context(
            run_id=opening.run_id,
            prefect_run_id=opening.prefect_run_id,
            process=opening.definition.name,
            process_version=opening.definition.version,
            case_id=case_id,
            subject_ref=subject_ref,
        ),
        data={
            "request": opening.request.model_dump(mode="json", context={SEAL: sealer}),
            "parent_run_id": opening.parent_run_id,
            "due_at": stamp(opening.due_at) if opening.due_at else None,
        },
        sealer=sealer,
    )


def _chosen(state: RunState | None, subject_ref: str | None) -> Select[Any]:
    chosen = select(run).order_by(run.c.created_at.desc())
    if state is not None:
        chosen = chosen.where(run.c.state == state)
    return chosen if subject_ref is None else chosen.where(run.c.subject_ref == subject_ref)


def _run(row: Any) -> Run:
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
    )
