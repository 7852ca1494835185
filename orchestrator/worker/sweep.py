"""Executes the runs that wait for a worker."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

from sqlalchemy.exc import SQLAlchemyError

from orchestrator.bootstrap import Application
from orchestrator.errors import LeaseLost, OrchestratorError, RunPostponed
from orchestrator.logs import about

IN_FLIGHT = 4
"""At most so many due runs are executed at once."""
LONGEST_WAIT_SECONDS = 30.0
"""The store is asked at least so often: a wake-up can be lost with the process or the network that carries it."""
RETRY_SECONDS = 1.0
"""A store that failed is asked again after so long."""
logger = logging.getLogger(__name__)


class Sweep:
    """Executes the runs that wait: new ones, postponed ones, and those whose owner died.

    Args:
        app: The application.
        stop: Set when the worker is to stop.
    """

    def __init__(self, app: Application, stop: Event) -> None:
        self._app = app
        self._stop = stop
        self._pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="run")
        self._under_way: dict[str, Future[None]] = {}

    def run(self) -> None:
        """Sweep until the worker stops; what is under way then is finished."""
        while not self._stop.is_set():
            try:
                self._sweep()
                seconds = self._until_next()
            except (OrchestratorError, SQLAlchemyError) as exc:
                seconds = RETRY_SECONDS
                logger.error("The store cannot be swept (%s); tried again in %s s", type(exc).__name__, seconds)  # noqa: TRY400 - it may hold what the store was asked
            self._app.work_waits.wait(seconds)
        self._pool.shutdown(wait=True)

    def _until_next(self) -> float:
        """Return how many seconds nothing comes due, unless somebody wakes."""
        due, now = self._app.runs.next_due(), self._app.record.clock()
        return min((due - now).total_seconds(), LONGEST_WAIT_SECONDS) if due else LONGEST_WAIT_SECONDS

    def _sweep(self) -> None:
        self._under_way = {run_id: future for run_id, future in self._under_way.items() if not future.done()}
        for run_id in self._app.runs.due(limit=2 * IN_FLIGHT, processes=self._app.processes):
            if run_id not in self._under_way and len(self._under_way) < IN_FLIGHT:
                self._under_way[run_id] = self._pool.submit(self._execute, run_id)

    def _execute(self, run_id: str) -> None:
        with about(run=run_id):
            self._executed(run_id)

    def _executed(self, run_id: str) -> None:
        try:
            self._app.kernel.execute(self._app.definition(self._process_of(run_id)), run_id)
        except RunPostponed as exc:
            logger.warning("Run %s is postponed to %s: %s", run_id, f"{exc.due_at:%H:%M:%S}", exc)
        except LeaseLost as exc:
            logger.debug("Run %s: %s", run_id, exc)
        except OrchestratorError as exc:
            logger.error("Run %s: %s", run_id, exc)  # noqa: TRY400 - our messages say it all
        except Exception as exc:  # noqa: BLE001 - one run never takes the worker down
            logger.error("Run %s: %s", run_id, type(exc).__name__)  # noqa: TRY400 - its text may name a person
        finally:
            self._app.work_waits.wake_here()
            self._app.ended.set()

    def _process_of(self, run_id: str) -> str:
        with self._app.record.store.read() as tx:
            return self._app.runs.get(tx, run_id).process
