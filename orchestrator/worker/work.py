"""Everything that a worker does, side by side, until it is told to stop."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from threading import Event, Thread

import anyio
from anyio.to_thread import run_sync
from prefect.client.orchestration import get_client

from orchestrator.bootstrap import Application, use
from orchestrator.prefect_lane.deployments import register
from orchestrator.prefect_lane.environment import prefect_answers
from orchestrator.prefect_lane.worker import WarmWorker
from orchestrator.worker.alarms import tell_people
from orchestrator.worker.mail import take_mail
from orchestrator.worker.showing import mirror
from orchestrator.worker.sweep import Sweep
from orchestrator.worker.watch import watch

REACH_SECONDS = 0.5
logger = logging.getLogger(__name__)


def work(app: Application) -> None:
    """Run the worker until it is told to stop (SIGINT, SIGTERM)."""
    use(app)
    app.kernel  # noqa: B018 - what the threads share is made before they start
    stop = Event()
    registered = Event()
    threads = [
        Thread(target=Sweep(app, stop).run, name="sweep"),
        Thread(target=mirror, args=(app, stop, registered), name="mirror"),
        Thread(target=watch, args=(app, stop), name="watch"),
    ]
    threads += [
        Thread(
            target=take_mail,
            args=(app, source, app.settings.mailboxes[source.name].poll_seconds, stop),
            name=f"mailbox-{source.name}",
        )
        for source in app.sources()
    ]
    if alarms := app.settings.alarms:
        threads.append(Thread(target=tell_people, args=(app, alarms.every_seconds, stop), name="alarms"))
    for thread in threads:
        thread.start()
    try:
        anyio.run(_until_signal, app, registered.set)
    finally:
        stop.set()
        registered.set()
        app.work_waits.wake_here()
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
