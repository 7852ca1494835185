"""One execution of a run: what the record says of it so far, and the only way to add to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from orchestrator.errors import LeaseLost, RecordError, RunCancelled, RunPostponed
from orchestrator.kernel import run_store
from orchestrator.kernel.lease import Lease
from orchestrator.kernel.run_model import Release
from orchestrator.kernel.run_states import Mirror
from orchestrator.ledger import effect_store
from orchestrator.ledger.duplicates import LATE, late_chain, report_duplicate
from orchestrator.record.clock import moment, stamp
from orchestrator.record.record import Record
from orchestrator.record.trail import CHAIN, Draft, Event, Head, Sealer, event_of, linked
from orchestrator.record.verify import breach_of

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
        lease: The owner's hold on the run.
        process_version: The version of the process that executes it now.
        stopping: Tells whether the owner must let its runs go.
    """

    def __init__(
        self,
        record: Record,
        lease: Lease,
        *,
        process_version: str,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.run = run = lease.run
        self.progressed = False
        """Whether this owner has brought the run a step forward."""
        self.waits_for: str | None = None
        """The connection that keeps the run from going on, if it is one."""
        self.mirror = Mirror.DUE
        """What is left to show of the run when this owner gives it back."""
        self._record = record
        self._lease = lease
        self._kept: list[Draft] = []
        self._changes: list[Change] = []
        self._stopping = stopping
        self.context = run.context(prefect_run_id=run.prefect_run_id, process_version=process_version)
        self._head = Head()
        self._effects: dict[str, Any] = {}
        self._zero = record.clock() - record.steady()

    def now(self) -> datetime:
        """Tell the time; within a step it goes on steadily, even if the wall clock is set meanwhile."""
        return self._zero + self._record.steady()

    def past(self) -> Past:
        """Read what the record holds of this run, before anything is added to it.

        Raises:
            RecordError: The run's chain does not verify: nothing may be done on its word.
        """
        with self._record.store.read() as tx:
            rows = CHAIN.rows(tx, {"chain": self.run.run_id})
            self._effects = effect_store.of_run(tx, self.run.run_id)
            if rows:
                self._head = Head(seq=rows[-1].chain_seq, hash=rows[-1].hash)
            if breach := breach_of(rows):
                raise RecordError(f"run {breach.chain_id}: event {breach.chain_seq} does not verify: {breach.problem}")
            events = [event_of(row) for row in rows]
            return Past(events=events, private=self._record.trail.private_of(tx, self.run.run_id))

    def go_on(self) -> None:
        """Do nothing, unless the run has to stop before its next step.

        Raises:
            RunCancelled: A person cancelled it.
            RunPostponed: Its owner stops; another one goes on with it at once.
        """
        self._zero = self._record.clock() - self._record.steady()
        if self._lease.look():
            raise self._cancelled()
        if self._stopping():
            raise RunPostponed("its worker was stopped; another one goes on", due_at=self.now())

    def draft(self, kind: str, data: Mapping[str, Any], *, sealer: Sealer | None = None, **context: Any) -> Draft:
        """Return an event of this run."""
        about = replace(self.context, **context)
        return Draft(kind=kind, context=about, data=data, sealer=sealer or Sealer())

    def keep(self, draft: Draft, change: Change | None = None) -> None:
        """Keep an event back for the next commit: what no effect depends on yet needs none of its own.

        Only slow queries bring about a commit: the lease must not lapse while its owner is alive.

        Args:
            draft: The event.
            change: What changes together with it, if anything does: then it is committed before the next call.
        """
        self._kept.append(draft)
        if change is not None:
            self._changes.append(change)
        if self._lease.move():
            self.commit()

    def settle_up(self) -> None:
        """Commit a change that is kept back: a system is about to be called, and nobody knows how long that takes."""
        if self._changes:
            self.commit()

    def commit(
        self,
        *drafts: Draft,
        change: Change | None = None,
        call: timedelta | None = None,
        release: Release | None = None,
    ) -> None:
        """Write what was kept back, and these events and the change, in one durable transaction.

        Args:
            drafts: The events.
            change: Changes other tables.
            call: How long the call may take that comes next: the lease outlives it. Without one, no effect follows.
            release: How the run is given back, if it is.

        Raises:
            LeaseLost: Another owner has the run, or moved the effect; nothing was written.
            RunCancelled: A call was to come next, and a person cancelled the run; nothing was written.
        """
        columns = self._lease.begin(call)
        links = linked(self.run.run_id, self._head, [*self._kept, *drafts], self._record.clock())
        changes = [*self._changes, *([change] if change else [])]
        deaths = 0 if self.progressed else self.run.deaths

        def write(tx: Connection) -> None:
            self._lease.hold(tx, columns, deaths=deaths, release=release)
            if call is not None and self._lease.is_cancelled:
                raise self._cancelled()
            self._record.trail.insert(tx, links)
            for each in changes:
                each(tx)

        try:
            self._record.store.commit(write)
        except IntegrityError as exc:
            self._report(self.draft("chain.fork", {"fence": self.run.fence}))
            self._report_kept()
            raise LeaseLost(f"run {self.run.run_id}: another owner wrote to its chain") from exc
        except LeaseLost:
            self._report_kept()
            raise
        self._head = links.head
        self._kept.clear()
        self._changes.clear()
        self._lease.committed()

    def read_effect(self, effect_id: str) -> Any:
        """Return an effect's row as its owner found it, or None: nobody else moves it meanwhile.

        Its moments are reckoned as ``now`` is, if they were written by the steady clock that this machine still has.
        """
        row = self._effects.get(effect_id)
        if row is None or row.clock != self._record.steady.name:
            return row
        shift = self._zero - moment(row.clock_zero)
        times = {name: getattr(row, name) for name in ("call_deadline", "first_attempt_at")}
        return row._replace(**{name: stamp(moment(at) + shift) for name, at in times.items() if at})

    def clock_columns(self) -> dict[str, str]:
        """Return the columns that say by which clock the moments of an effect are written."""
        return {"clock": self._record.steady.name, "clock_zero": stamp(self._zero)}

    def report_late(self, effect_id: str, outcome: str) -> None:
        """Record a failure that came when the run belonged to somebody else already; it moves nothing."""
        self._report(self.draft(LATE, {"outcome": outcome, "fence": self.run.fence}, effect_id=effect_id))

    def report_duplicate(self, tx: Connection, outcome: Draft) -> None:
        """Raise an alarm if another attempt of the same effect is known to have happened, too."""
        report_duplicate(
            tx,
            self._record.trail,
            outcome,
            fence=self.run.fence,
            newest_fence=lambda: run_store.get(tx, self.run.run_id).fence,
            now=self._record.clock(),
        )

    def _report_kept(self) -> None:
        """Report the outcomes that were kept back, too late, as it turned out; their answers are proof."""
        for draft in self._kept:
            if draft.kind == "effect.outcome":
                data = {"outcome": "success", "fence": self.run.fence, **draft.data}
                self._report(replace(draft, kind=LATE, data=data), self.report_duplicate)

    def _cancelled(self) -> RunCancelled:
        return RunCancelled(f"run {self.run.run_id} was cancelled")

    def _report(self, draft: Draft, besides: Callable[[Connection, Draft], None] | None = None) -> None:
        with self._record.store.write() as tx:
            chain = late_chain(self.run.run_id, self.run.fence)
            self._record.trail.append_alone(tx, chain, draft, self._record.clock())
            if besides is not None:
                besides(tx, draft)
