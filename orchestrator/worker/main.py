"""Everything that a worker does, side by side, until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Awaitable, Callable
from threading import Thread
from typing import Any

import anyio
from anyio.to_thread import run_sync
from prefect.client.orchestration import get_client

from orchestrator.bootstrap import Application, use
from orchestrator.liveness import keep_beating
from orchestrator.prefect_lane.deployments import register
from orchestrator.prefect_lane.environment import prefect_answers
from orchestrator.prefect_lane.events import listen
from orchestrator.prefect_lane.worker import WarmWorker
from orchestrator.worker import shutdown
from orchestrator.worker.alarms import notify_people
from orchestrator.worker.deadlines import pass_deadlines
from orchestrator.worker.dispatcher import Dispatcher
from orchestrator.worker.heartbeat import beat
from orchestrator.worker.mail import take_mail
from orchestrator.worker.prefect_sync import correct, mirror
from orchestrator.worker.proving import prove
from orchestrator.worker.vacuum import vacuum
from orchestrator.worker.watch import watch

REACH_SECONDS = 0.5
"""Prefect is asked again after so long, then after twice as long, and so on."""
LONGEST_REACH_SECONDS = 2.0
logger = logging.getLogger(__name__)


def work(app: Application, *, only_runs: bool = False) -> None:
    """Run the worker until it is told to stop (SIGINT, SIGTERM).

    What is under way then stops before its next step, and other workers go on with it. The program is over at the
    latest ``shutdown.STOP_SECONDS`` after the signal.

    Args:
        app: The application.
        only_runs: True to execute the runs that wait, and leave everything else to another worker.
    """
    use(app)
    app.kernel  # noqa: B018 - what the threads share is made before they start
    threads = [_thread("sweep", Dispatcher(app, app.stopping).run), *([] if only_runs else _for_the_rest(app))]
    for thread in threads:
        thread.start()
    try:
        anyio.run(_until_signal, app, None if only_runs else _serve_prefect)
    finally:
        app.stopping.set()
        app.work_waits.wake_here()
        app.ended.set()
        for thread in threads:
            thread.join()


def _for_the_rest(app: Application) -> list[Thread]:
    stop = app.stopping
    polls = [(app, source, app.settings.mailboxes[source.name].poll_seconds, stop) for source in app.sources()]
    threads = [
        _thread("mirror", mirror, app, stop),
        _thread("correct", correct, app, stop),
        _thread("watch", watch, app, stop),
        _thread("prove", prove, app, stop),
        _thread("deadlines", pass_deadlines, app, stop),
        _thread("heartbeat", beat, app, stop),
        *(_thread(f"mailbox-{poll[1].name}", take_mail, *poll) for poll in polls),
    ]
    if app.settings.alarms:
        threads.append(_thread("alarms", notify_people, app, stop))
    if app.settings.retention.inbox_days or app.settings.retention.prefect_days:
        threads.append(_thread("vacuum", vacuum, app, stop))
    return threads


def _thread(name: str, target: Callable[..., None], *arguments: Any) -> Thread:
    return Thread(target=_live_or_stop, args=(name, target, *arguments), name=name)


def _live_or_stop(name: str, target: Callable[..., None], *arguments: Any) -> None:
    """Run a part of the worker; if it dies, the whole worker stops, and whoever watches over it starts it again."""
    try:
        target(*arguments)
    except Exception:
        logger.critical("Thread %s of this worker has died: the worker stops, to be started again", name)
        os.kill(os.getpid(), signal.SIGTERM)
        raise


async def _until_signal(app: Application, serve: Callable[[Application], Awaitable[None]] | None) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_stop_on_signal, app, group.cancel_scope)
        group.start_soon(keep_beating)
        while serve is not None:
            try:
                await serve(app)
            except Exception as exc:  # noqa: BLE001 - whatever happens to Prefect, customers are served
                logger.warning("Prefect was lost (%s); mail is served meanwhile", type(exc).__name__)
                await anyio.sleep(REACH_SECONDS)


async def _serve_prefect(app: Application) -> None:
    """Execute what Prefect starts. Mail is served meanwhile, whether Prefect is there or not."""
    await _reach_prefect(app.settings.prefect.api_url)
    async with get_client() as client:
        await register(client, app)
    logger.info("Ready: %s", ", ".join(sorted(app.processes)))
    worker = WarmWorker(app.settings.prefect.work_pool)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(worker.serve_wakes)
            group.start_soon(listen, app, worker)
            await worker.start(printer=logger.info)
    finally:
        worker.close()


async def _stop_on_signal(app: Application, scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            shutdown.stop(app.stopping)
            scope.cancel()
            return


async def _reach_prefect(api_url: str) -> None:
    """Wait until Prefect answers."""
    pause = REACH_SECONDS
    while not await run_sync(prefect_answers, api_url):
        if pause == REACH_SECONDS:
            logger.warning("Prefect does not answer at %s yet; runs are executed and recorded without it", api_url)
        await anyio.sleep(pause)
        pause = min(2 * pause, LONGEST_REACH_SECONDS)
