"""One owner's hold on one run: what the record says so far, and the only way to add to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.exc import IntegrityError

from orchestrator.errors import LeaseLost, RecordError, RunCancelled, RunPostponed
from orchestrator.kernel.runs import LEASE, Mirror, Run
from orchestrator.ledger.effects import find_effect
from orchestrator.record.clock import stamp
from orchestrator.record.record import Record
from orchestrator.record.store import repeated
from orchestrator.record.tables import run as run_table
from orchestrator.record.trail import Context, Draft, Event, Head, Sealer
from orchestrator.record.verify import verify

LOOK = timedelta(seconds=0.1)
"""Between two steps, an owner looks so often whether somebody cancelled its run."""
Change = Callable[[Connection], None]


@dataclass(frozen=True, kw_only=True)
class Past:
    """What the record holds of a run when its owner takes it."""

    events: list[Event]
    private: dict[str, Any]


class Session:
    """A leased run. Events are kept back until the next commit; a commit holds the fence and renews the lease.

    Args:
        record: Where everything is written down.
        run: The run, as ``Runs.acquire`` gave it.
        owner: The owner it was leased to.
        process_version: The version of the process that executes it now.
        lease: The run is the owner's for so long after each commit.
        stopping: Tells whether the owner must let its runs go.
    """

    def __init__(
        self,
        record: Record,
        run: Run,
        *,
        owner: str,
        process_version: str,
        lease: timedelta = LEASE,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.run = run
        self.progressed = False
        """Whether this owner has brought the run a step forward."""
        self.waits_for: str | None = None
        """The connection that keeps the run from going on, if it is one."""
        self.mirror = Mirror.DUE
        """What is left to show of the run when this owner gives it back."""
        self._record = record
        self._owner = owner
        self._lease = lease
        self._kept: list[Draft] = []
        self._renewed_at = self._looked_at = record.clock()
        self._stopping = stopping
        self.context = Context(
            run_id=run.run_id,
            prefect_run_id=run.prefect_run_id,
            process=run.process,
            process_version=process_version,
            case_id=run.case_id,
            subject_ref=run.subject_ref,
        )
        with record.store.read() as tx:
            self._head = record.trail.head(tx, run.run_id)

    def now(self) -> datetime:
        """Tell the time."""
        return self._record.clock()

    def past(self) -> Past:
        """Read what the record holds of this run.

        Raises:
            RecordError: The run's chain does not verify: nothing may be done on its word.
        """
        with self._record.store.read() as tx:
            found = verify(tx, self.run.run_id)
            if found.breaches:
                first = found.breaches[0]
                raise RecordError(f"run {first.chain_id}: event {first.chain_seq} does not verify: {first.problem}")
            events = self._record.trail.chain(tx, self.run.run_id)
            return Past(events=events, private=self._record.trail.private_values(tx, [e.event_id for e in events]))

    def go_on(self) -> None:
        """Do nothing, unless the run has to stop before its next step.

        Raises:
            RunCancelled: A person cancelled it.
            RunPostponed: Its owner stops; another one goes on with it at once.
        """
        now = self.now()
        if self._is_cancelled(now):
            raise RunCancelled(f"run {self.run.run_id} was cancelled")
        if self._stopping():
            raise RunPostponed("its worker was stopped; another one goes on", due_at=now)

    def _is_cancelled(self, now: datetime) -> bool:
        if self.run.cancelled_by is not None:
            return True
        if now < self._looked_at + LOOK:
            return False
        self._looked_at = now
        asked = select(run_table.c.cancelled_by).where(run_table.c.run_id == self.run.run_id)
        with self._record.store.read() as tx:
            return tx.execute(asked).scalar_one() is not None

    def draft(self, kind: str, data: Mapping[str, Any], *, sealer: Sealer | None = None, **context: Any) -> Draft:
        """Return an event of this run."""
        about = replace(self.context, **context)
        return Draft(kind=kind, context=about, data=data, sealer=sealer or Sealer())

    def keep(self, draft: Draft) -> None:
        """Keep an event back for the next commit: what no effect depends on yet needs none of its own.

        Only slow queries bring about a commit: the lease must not lapse while its owner is alive.
        """
        self._kept.append(draft)
        if self.now() >= self._renewed_at + self._lease / 3:
            self.commit()

    def commit(self, *drafts: Draft, change: Change | None = None, call: timedelta | None = None) -> None:
        """Append the events kept back and these, and make the change, in one durable transaction.

        Args:
            drafts: The events.
            change: Changes other tables.
            call: How long the call may take that comes next: the lease outlives it.

        Raises:
            LeaseLost: Another owner has the run, or moved the effect; nothing was written.
        """
        now = self.now()
        until = now + (self._lease if call is None else call + self._lease / 2)
        try:
            head = repeated(lambda: self._write(drafts, change, now, until))
        except IntegrityError as exc:
            self._report("chain.fork", {"fence": self.run.fence})
            raise LeaseLost(f"run {self.run.run_id}: another owner wrote to its chain") from exc
        self._head = head
        self._kept.clear()
        self._renewed_at = now

    def read_effect(self, effect_id: str) -> Any:
        """Return an effect's row, or None."""
        with self._record.store.read() as tx:
            return find_effect(tx, effect_id)

    def report_late(self, effect_id: str, outcome: str) -> None:
        """Record an outcome that came when the run belonged to somebody else already; it moves nothing."""
        self._report("effect.late", {"outcome": outcome, "fence": self.run.fence}, effect_id=effect_id)

    def _write(self, drafts: Sequence[Draft], change: Change | None, now: datetime, until: datetime) -> Head:
        with self._record.store.write() as tx:
            self._hold(tx, until)
            head = self._record.trail.append(tx, self.run.run_id, self._head, [*self._kept, *drafts], now)
            if change is not None:
                change(tx)
        return head

    def _hold(self, tx: Connection, until: datetime) -> None:
        held = tx.execute(
            update(run_table)
            .where(
                run_table.c.run_id == self.run.run_id,
                run_table.c.owner == self._owner,
                run_table.c.fence == self.run.fence,
            )
            .values(lease_until=stamp(until))
        )
        if held.rowcount != 1:
            raise LeaseLost(f"run {self.run.run_id}: another owner has it")

    def _report(self, kind: str, data: Mapping[str, Any], **context: Any) -> None:
        with self._record.store.write() as tx:
            chain = f"alarm:{self.run.run_id}:{self.run.fence}"
            self._record.trail.append_alone(tx, chain, self.draft(kind, data, **context), self.now())
