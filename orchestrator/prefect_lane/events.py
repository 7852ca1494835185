"""Hears from Prefect what people press: *Run* and *Retry* wake the worker, *Cancel* reaches the record."""

from __future__ import annotations

import logging
from uuid import UUID

import anyio
from anyio.to_thread import run_sync
from prefect.events import Event
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter

from orchestrator.bootstrap import Application
from orchestrator.errors import NotRecorded
from orchestrator.kernel.cancellation import cancel
from orchestrator.kernel.runs import Run, RunState
from orchestrator.prefect_lane.claims import show_again
from orchestrator.prefect_lane.worker import WarmWorker
from orchestrator.record.trail import IN_PREFECT

AGAIN_SECONDS = 1.0
FLOW_RUN = "prefect.flow-run."
STATE_TYPE = "prefect.state-type"
SCHEDULED, CANCELLING, CANCELLED = "SCHEDULED", "CANCELLING", "CANCELLED"
logger = logging.getLogger(__name__)


async def listen(app: Application, worker: WarmWorker) -> None:
    """Listen to Prefect until cancelled; what is missed meanwhile, the polls and the healing find."""
    while True:
        try:
            await _hear(app, worker)
        except Exception as exc:  # noqa: BLE001 - without events, the worker polls
            logger.info("Prefect's events are not heard now (%s); it is polled meanwhile", type(exc).__name__)
        await anyio.sleep(AGAIN_SECONDS)


async def _hear(app: Application, worker: WarmWorker) -> None:
    wanted = EventFilter(
        event=EventNameFilter(prefix=[FLOW_RUN]),
        resource=EventResourceFilter(labels={STATE_TYPE: [SCHEDULED, CANCELLING, CANCELLED]}),
    )
    async with get_events_subscriber(filter=wanted) as events:
        worker.wake()  # what was scheduled before we listened
        async for event in events:
            flow_run_id = event.resource.id.removeprefix(FLOW_RUN)
            if event.resource[STATE_TYPE] != SCHEDULED:
                await run_sync(cancelled_in_prefect, app, flow_run_id)
            elif _is_in_pool(event, f"prefect.work-pool.{worker.work_pool.id}"):
                worker.wake(UUID(flow_run_id))


def cancelled_in_prefect(app: Application, flow_run_id: str) -> None:
    """Cancel the run of a flow run that somebody cancelled in Prefect; if it was over already, say so there."""
    run = app.runs.of_prefect(flow_run_id)
    if run is not None and run.state is not RunState.CANCELLED:
        _cancel(app, run)


def _cancel(app: Application, run: Run) -> None:
    try:
        cancel(app.record, run.run_id, IN_PREFECT)
        app.ended.set()
    except NotRecorded:
        show_again(app, run.run_id)


def _is_in_pool(event: Event, work_pool: str) -> bool:
    return any(resource.id == work_pool for resource in event.related)
