"""Runs: one execution of a process each, with one owner at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection

from orchestrator.kernel import queue, run_queries, run_store
from orchestrator.kernel.opening import Opening, new_run_id, open_run
from orchestrator.kernel.run_model import Run
from orchestrator.kernel.run_states import Mirror, RunState
from orchestrator.kernel.run_times import Now, due_in, lease_for, now_of
from orchestrator.record.record import Record
from orchestrator.record.trail import Actor, Draft
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
]

LEASE = timedelta(seconds=60)
"""A run belongs to its owner for so long after the owner's last commit, unless ``[worker] lease_seconds`` says else."""


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


def waits_for_process(name: str) -> str:
    """Return what a run waits for whose process cannot be executed; no connection has such a name."""
    return f"process:{name}"


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
        return open_run(self._record, tx, opening, self._due(opening.reserved))

    def acquire(self, run_id: str, owner: str, *, process: str) -> Run | None:
        """Lease a run that is not finished and that nobody owns.

        Returns:
            The run with its new fence, or None if it is owned, finished or waits for a person, or is
            one of another process.
        """
        with self._record.store.write() as tx:
            now, lease = now_of(self._record), lease_for(self._record, self.lease)
            return run_store.acquire(tx, run_id, owner, process, now=now, lease=lease)

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
            now, lease = now_of(self._record), lease_for(self._record, self.lease)
            self._see_to_the_clock(tx, now)
            chosen = queue.in_turn(tx, now, processes, limit=limit, held=held)
            tried = [run_store.take(tx, run_id, owner, now=now, lease=lease) for run_id in chosen]
            next_due = queue.next_due(tx, now)
        taken = [run for run in tried if run is not None]
        spared = queue.has_suspect([*held.values(), *(each.deaths for each in taken)])
        return ClaimResult(runs=taken, next_due=next_due, spared=spared)

    def _see_to_the_clock(self, tx: Connection, now: Now) -> None:
        if self._zero is None or now.zero < self._zero - queue.SET_BACK:
            queue.restate_due(tx, now)
        self._zero = now.zero

    def due(self, *, limit: int, processes: Collection[str] | None = None) -> list[str]:
        """Return the runs that wait for a worker: those whose owner died, and those that are due, oldest first.

        Of a case whose run is under way, or waits longer, none.

        Args:
            limit: At most so many.
            processes: Only runs of these processes: others wait for a worker that knows them.
        """
        with self._record.store.read() as tx:
            rows = queue.due(tx, now_of(self._record), processes, limit=limit)
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
        due, now = self._due(reserved), self._record.clock()
        with self._record.store.write() as tx:
            run_store.resume(tx, run_id, due)
            resumed = Draft(kind="run.resumed", context=run_store.get(tx, run_id).context(), actor=actor)
            self._record.trail.append_alone(tx, run_id, resumed, now)
            if not reserved:
                wake_on_commit(tx)

    def waited_for(self) -> frozenset[str]:
        """Return everything that some run waits for: connections, and what ``waits_for_process`` returns."""
        with self._record.store.read() as tx:
            return run_queries.waited_for(tx)

    def wake_waiting_for(self, tx: Connection, what: str) -> int:
        """Let the runs go on that a connection, or their process, kept from it, in the caller's transaction.

        Returns:
            How many.
        """
        now = self._record.clock()
        parked = run_queries.parked_for(tx, what)
        woken = run_store.restore(tx, what, self._due())
        for run in parked:
            resumed = Draft(kind="run.resumed", context=run.context(), data={"waited_for": what})
            self._record.trail.append_alone(tx, run.run_id, resumed, now)
        if woken:
            wake_on_commit(tx)
        return woken

    def get(self, tx: Connection, run_id: str) -> Run:
        """Return a run.

        Raises:
            NotRecorded: No such run.
        """
        return run_store.get(tx, run_id)

    def of_prefect(self, prefect_run_id: str) -> Run | None:
        """Return the run that a Prefect flow run executes, if it was opened."""
        with self._record.store.read() as tx:
            return run_queries.of_prefect(tx, prefect_run_id)

    def attach(self, run_id: str, prefect_run_id: str) -> None:
        """Note which Prefect flow run shows this run."""
        with self._record.store.write() as tx:
            run_store.attach(tx, run_id, prefect_run_id)

    def listed(self, *, state: RunState | None = None, subject_ref: str | None = None, limit: int) -> list[Run]:
        """Return the newest runs, newest first."""
        with self._record.store.read() as tx:
            return run_queries.newest(tx, state=state, subject_ref=subject_ref, limit=limit)

    def count(self, *, state: RunState | None = None, subject_ref: str | None = None, at_most: int) -> int:
        """Return how many runs ``listed`` finds, counted no further than told."""
        with self._record.store.read() as tx:
            return run_queries.count(tx, state=state, subject_ref=subject_ref, at_most=at_most)

    def _due(self, reserved: bool = False) -> dict[str, Any]:
        """Return when a run is due that was made ready now; workers leave a reserved one alone for a while."""
        return due_in(self._record, self.lease if reserved else timedelta(0))
