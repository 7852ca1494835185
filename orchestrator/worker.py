"""The worker: takes mail in, executes what is due, and executes what Prefect starts."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, Thread

import anyio
import httpx
from anyio.to_thread import run_sync
from prefect.client.orchestration import get_client

from orchestrator.bootstrap import Application, use
from orchestrator.errors import ConnectorError, OrchestratorError, RunPostponed
from orchestrator.intake.mailboxes import Source
from orchestrator.prefect_lane.deployments import register
from orchestrator.prefect_lane.environment import prefect_answers
from orchestrator.prefect_lane.mirror import PrefectMirror
from orchestrator.prefect_lane.worker import WarmWorker

IN_FLIGHT = 4
"""At most so many due runs are executed at once."""
SWEEP_SECONDS = 1.0
"""How often the store is asked for runs that came due, or whose owner died, without a wake-up."""
REACH_SECONDS = 0.5
MIRROR_SECONDS = 5.0
"""How often runs are shown that other workers ended."""
MIRROR_RETRY_SECONDS = 5.0
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
            self._app.work_waits.clear()
            try:
                self._sweep()
            except OrchestratorError:
                logger.exception("The store cannot be swept; tried again in %s s", SWEEP_SECONDS)
            self._app.work_waits.wait(SWEEP_SECONDS)
        self._pool.shutdown(wait=True)

    def _sweep(self) -> None:
        self._under_way = {run_id: future for run_id, future in self._under_way.items() if not future.done()}
        for run_id in self._app.runs.due(limit=2 * IN_FLIGHT):
            if run_id not in self._under_way and len(self._under_way) < IN_FLIGHT:
                self._under_way[run_id] = self._pool.submit(self._execute, run_id)

    def _execute(self, run_id: str) -> None:
        try:
            self._app.kernel.execute(self._app.definition(self._process_of(run_id)), run_id)
        except RunPostponed as exc:
            logger.warning("Run %s is postponed to %s: %s", run_id, f"{exc.due_at:%H:%M:%S}", exc)
        except OrchestratorError as exc:
            logger.error("Run %s: %s", run_id, exc)  # noqa: TRY400 - our messages say it all
        except Exception as exc:  # noqa: BLE001 - one run never takes the worker down
            logger.error("Run %s: %s", run_id, type(exc).__name__)  # noqa: TRY400 - its text may name a person
        finally:
            self._app.work_waits.set()
            self._app.ended.set()

    def _process_of(self, run_id: str) -> str:
        with self._app.record.store.read() as tx:
            return self._app.runs.get(tx, run_id).process


def mirror(app: Application, stop: Event, registered: Event) -> None:
    """Show ended and stopped runs in Prefect, once it knows our processes, until the worker stops."""
    shown_in = PrefectMirror(app)
    registered.wait()
    while not stop.is_set():
        app.ended.clear()
        try:
            shown_in.catch_up()
        except httpx.HTTPError as exc:
            logger.info("Prefect does not take runs now (%s); they are shown later", type(exc).__name__)
            stop.wait(MIRROR_RETRY_SECONDS)
        except Exception as exc:  # noqa: BLE001 - what Prefect shows never stops the work
            logger.error("Runs cannot be shown in Prefect: %s", type(exc).__name__)  # noqa: TRY400 - as above
            stop.wait(MIRROR_RETRY_SECONDS)
        app.ended.wait(MIRROR_SECONDS)


def take_mail(app: Application, source: Source, poll_seconds: float, stop: Event) -> None:
    """Take mail in from one mailbox until the worker stops."""
    while True:
        try:
            if taken := app.intake.take_in(source):
                logger.info("Mailbox %s: %d new", source.name, taken)
        except ConnectorError as exc:
            logger.warning("Mailbox %s: %s", source.name, exc)
        except Exception as exc:  # noqa: BLE001 - the next round tries again; nothing was moved
            logger.error("Mailbox %s: %s", source.name, type(exc).__name__)  # noqa: TRY400 - may name a person
        if stop.wait(poll_seconds):
            return


def work(app: Application) -> None:
    """Run the worker until it is told to stop (SIGINT, SIGTERM)."""
    use(app)
    app.kernel  # noqa: B018 - what the threads share is made before they start
    stop = Event()
    registered = Event()
    threads = [
        Thread(target=Sweep(app, stop).run, name="sweep"),
        Thread(target=mirror, args=(app, stop, registered), name="mirror"),
    ]
    threads += [
        Thread(
            target=take_mail,
            args=(app, source, app.settings.mailboxes[source.name].poll_seconds, stop),
            name=f"mailbox-{source.name}",
        )
        for source in app.sources()
    ]
    for thread in threads:
        thread.start()
    try:
        anyio.run(_until_signal, app, registered.set)
    finally:
        stop.set()
        registered.set()
        app.work_waits.set()
        app.ended.set()
        for thread in threads:
            thread.join()


async def _until_signal(app: Application, when_registered: Callable[[], None]) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_stop_on_signal, group.cancel_scope)
        while True:
            try:
                await _serve_prefect(app, when_registered)
            except Exception as exc:  # noqa: BLE001 - whatever befalls Prefect, customers are served
                logger.warning("Prefect was lost (%s); mail is served meanwhile", type(exc).__name__)
                await anyio.sleep(REACH_SECONDS)


async def _serve_prefect(app: Application, when_registered: Callable[[], None]) -> None:
    """Execute what Prefect starts. Mail is served meanwhile, whether Prefect is there or not."""
    await _reach_prefect(app.settings.prefect.api_url)
    schedules = {name: process.schedule for name, process in app.settings.processes.items() if process.schedule}
    async with get_client() as client:
        await register(client, dict(app.processes), schedules, work_pool=app.settings.prefect.work_pool)
    when_registered()
    logger.info("Ready: %s", ", ".join(sorted(app.processes)))
    await WarmWorker(work_pool_name=app.settings.prefect.work_pool).start(printer=logger.info)


async def _stop_on_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()
            return


async def _reach_prefect(api_url: str) -> None:
    """Wait until Prefect answers."""
    warned = False
    while not await run_sync(prefect_answers, api_url):
        if not warned:
            logger.warning("Prefect does not answer at %s yet; runs are executed and recorded without it", api_url)
            warned = True
        await anyio.sleep(REACH_SECONDS)
