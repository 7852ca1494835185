"""The runs that this program executes: it takes none of them again, and renews their leases in long steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Lock, Thread

from orchestrator.kernel.lease import Lease
from orchestrator.record.store import UNWRITABLE

logger = logging.getLogger(__name__)


class Holding:
    """Knows the leases of this program.

    Args:
        every: They are looked after so often, by a thread; None leaves that to the caller.
    """

    def __init__(self, every: timedelta | None) -> None:
        self._every = every
        self._leases: set[Lease] = set()
        self._lock = Lock()
        self._thread: Thread | None = None

    def runs(self) -> dict[str, int]:
        """Return the runs that are executed here, and how often their owners died."""
        with self._lock:
            return {lease.run.run_id: lease.run.deaths for lease in self._leases}

    @contextmanager
    def held(self, lease: Lease) -> Iterator[None]:
        """Hold a run as long as the block lasts."""
        with self._lock:
            self._leases.add(lease)
            self._start_thread()
        try:
            yield
        finally:
            with self._lock:
                self._leases.discard(lease)

    def renew(self) -> None:
        """Renew the leases that need it."""
        with self._lock:
            leases = list(self._leases)
        for lease in leases:
            try:
                lease.renew()
            except UNWRITABLE as exc:
                logger.warning("Run %s: its lease cannot be renewed now: %s", lease.run.run_id, type(exc).__name__)

    def _start_thread(self) -> None:
        """Start it the first time, after it was idle, and after a fork."""
        if self._every is not None and (self._thread is None or not self._thread.is_alive()):
            self._thread = Thread(target=self._look_after, args=(self._every,), name="leases", daemon=True)
            self._thread.start()

    def _look_after(self, every: timedelta) -> None:
        """Renew, until there has been nothing to do for a while."""
        while True:
            time.sleep(every.total_seconds())
            with self._lock:
                if not self._leases:
                    self._thread = None
                    return
            self.renew()
