"""One owner's lease on one run: every commit renews it, and a long step is no reason to lose it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from orchestrator.kernel import run_store
from orchestrator.kernel.run_model import Holder, Release, Run
from orchestrator.kernel.run_times import lease_for
from orchestrator.record.record import Record

LONGEST_STEP = timedelta(minutes=15)
"""The lease of a run that got no further for so long is not renewed any more: its call hangs."""
LOOK = timedelta(seconds=0.1)
"""Between two steps, an owner looks so often whether somebody cancelled its run; before an effect, it looks always."""
logger = logging.getLogger(__name__)


class Lease:
    """The owner's hold on a run.

    Args:
        record: Where the run is written down.
        run: The run, as ``Runs.acquire`` gave it.
        owner: The owner it was leased to.
        span: The run is the owner's for so long after each commit.
    """

    def __init__(self, record: Record, run: Run, *, owner: str, span: timedelta) -> None:
        self.run = run
        self.is_cancelled = run.cancelled_by is not None
        """Whether somebody had cancelled the run when it was last looked at."""
        self._record = record
        self._holder = Holder(run_id=run.run_id, owner=owner, fence=run.fence)
        self._span = span
        self._begun_at = self._committed_at = self._renewed_at = self._moved_at = self._looked_at = record.steady()
        self._calls = False
        """Whether an effect may be under way: then the lease covers the call, and no more."""
        self._hangs = False

    def look(self) -> bool:
        """Tell whether somebody has cancelled the run; the store is asked only now and then."""
        now = self._record.steady()
        if not self.is_cancelled and now >= self._looked_at + LOOK:
            self._looked_at = now
            with self._record.store.read() as tx:
                self.is_cancelled = run_store.get(tx, self.run.run_id).cancelled_by is not None
        return self.is_cancelled

    def move(self) -> bool:
        """Note that the run got on; tell whether it should be committed, so that the lease does not lapse."""
        self._moved_at = self._record.steady()
        return self._moved_at >= self._committed_at + self._span / 3

    def begin(self, call: timedelta | None) -> dict[str, Any]:
        """Return the columns of the lease that the next commit makes.

        Args:
            call: How long the call may take that comes next: the lease outlives it. Without one, no effect follows.
        """
        columns = lease_for(self._record, self._span if call is None else call + self._span / 2)
        self._calls, self._begun_at = call is not None, self._record.steady()
        return columns

    def hold(self, tx: Connection, columns: Mapping[str, Any], *, deaths: int, release: Release | None) -> None:
        """Renew the lease in the transaction of a commit, or give the run back.

        Args:
            tx: The transaction.
            columns: What ``begin`` returned.
            deaths: How many of the run's owners died since it last got on.
            release: How the run is given back, if it is.

        Raises:
            LeaseLost: Another owner has it.
        """
        self.is_cancelled = run_store.hold(tx, self._holder, lease=columns, deaths=deaths, release=release)

    def committed(self) -> None:
        """Note that the commit is done that ``begin`` began."""
        self._committed_at = self._renewed_at = self._moved_at = self._begun_at

    def renew(self) -> None:
        """Renew the lease in the middle of a long query; called by another thread, again and again.

        No commit of the run may come in between with a longer lease: so it is only ever made longer.
        """
        now = self._record.steady()
        if self._calls or now < self._renewed_at + self._span / 3:
            return
        if now > self._moved_at + LONGEST_STEP:
            self._report_hanging()
            return
        with self._record.store.write(durable=False) as tx:
            run_store.renew(tx, self._holder, lease_for(self._record, self._span))
        self._renewed_at = now

    def _report_hanging(self) -> None:
        if not self._hangs:
            self._hangs = True
            logger.error(
                "Run %s has been in one step for %s: its call hangs, and its lease is not renewed any more; another "
                "worker may go on with it, this one once it is started again",
                self.run.run_id,
                LONGEST_STEP,
            )
