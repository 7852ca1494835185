"""Executes the runs that wait for a worker."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock

from sqlalchemy.exc import SQLAlchemyError

from orchestrator.bootstrap import Application
from orchestrator.errors import LeaseLost, OrchestratorError, RunParked, RunPostponed
from orchestrator.kernel.runs import Run
from orchestrator.logs import about
from orchestrator.record.wakeup import Woken

LONGEST_WAIT_SECONDS = 30.0
"""The store is asked at least so often: a wake-up can be lost with the process or the network that carries it."""
RETRY_SECONDS = 1.0
"""A store that failed is asked again after so long."""
logger = logging.getLogger(__name__)


class Dispatcher:
    """Executes the runs that wait: new ones, postponed ones, and those whose owner died.

    Args:
        app: The application.
        stop: Set when the worker is to stop.
    """

    def __init__(self, app: Application, stop: Event) -> None:
        self._app = app
        self._stop = stop
        self._most = app.settings.worker.in_flight
        self._pool = ThreadPoolExecutor(self._most, thread_name_prefix="run")
        self._sweeping, self._counting = Lock(), Lock()
        self._under_way = 0
        self._crowded = False
        """Whether more may wait than there was room for."""

    def run(self) -> None:
        """Dispatcher until the worker stops; what is under way then is finished."""
        woken = Woken.NOBODY
        while not self._stop.is_set():
            try:
                seconds = self._sweep(woken)
                woken = Woken.NOBODY
            except (OrchestratorError, SQLAlchemyError) as exc:
                seconds = RETRY_SECONDS
                # Its text may hold what the store was asked.
                logger.error("The store cannot be swept: %s; tried again", type(exc).__name__)  # noqa: TRY400
            woken = max(woken, self._app.work_waits.wait(seconds))
        self._app.work_waits.close()  # whatever comes now is for others
        with self._sweeping:
            pass  # whoever sweeps from now on sees that the worker stops
        self._pool.shutdown(wait=True)

    def _sweep(self, woken: Woken) -> float:
        """Take up what waits, as far as there is room; return how long nothing else will wait unless somebody wakes."""
        with self._sweeping:
            return 0 if self._stop.is_set() else self._swept(woken)

    def _swept(self, woken: Woken) -> float:
        with self._counting:
            room = self._most - self._under_way
            self._crowded = True  # until we know better: what ends meanwhile makes us look again
        seconds, took = self._take_up(room) if room else (LONGEST_WAIT_SECONDS, 0)
        if woken is Woken.THIS_ONE and took in (0, room):  # there was nothing for us, or there may be more
            self._app.work_waits.pass_on()
        return seconds

    def _take_up(self, room: int) -> tuple[float, int]:
        """Take up at most so many runs; return how long nothing else will wait, and how many they are."""
        claimed = self._app.kernel.claim(most=room, processes=self._app.processes)
        with self._counting:
            self._under_way += len(claimed.runs)
            self._crowded = claimed.spared or len(claimed.runs) == room
        for run in claimed.runs:
            self._pool.submit(self._execute, run)
        took = len(claimed.runs)
        if claimed.next_due is None or took == room:
            return LONGEST_WAIT_SECONDS, took
        return min((claimed.next_due - self._app.record.clock()).total_seconds(), LONGEST_WAIT_SECONDS), took

    def _execute(self, run: Run) -> None:
        with about(run=run.run_id):
            self._executed(run)

    def _executed(self, run: Run) -> None:
        try:
            self._app.kernel.go_on(self._app.definition(run.process), run)
        except RunPostponed as exc:
            logger.warning("Run %s is postponed to %s: %s", run.run_id, f"{exc.due_at:%H:%M:%S}", exc)
        except RunParked as exc:
            logger.warning("Run %s waits for a person: %s", run.run_id, exc)
        except LeaseLost as exc:
            logger.warning("Run %s: the lease was lost: %s", run.run_id, exc)
        except OrchestratorError as exc:
            logger.error("Run %s: %s", run.run_id, exc)  # noqa: TRY400 - our messages say it all
        except Exception as exc:  # noqa: BLE001 - one run never takes the worker down
            logger.error("Run %s: %s", run.run_id, type(exc).__name__)  # noqa: TRY400 - its text may name a person
        finally:
            self._ended()

    def _ended(self) -> None:
        with self._counting:
            self._under_way -= 1
            is_wanted = self._crowded
        if is_wanted:
            self._look_again()
        self._app.ended.set()

    def _look_again(self) -> None:
        """Take up what waits in the thread that has become free: to wake another one first takes longer."""
        try:
            self._sweep(Woken.NOBODY)
        except Exception:  # noqa: BLE001 - the sweep itself meets it again, and says so
            self._app.work_waits.wake_here()
