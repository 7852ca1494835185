"""Every process is a deployment in Prefect, with its form and its schedule."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from orchestrator.bootstrap import Application
from orchestrator.prefect_lane.deployment_notices import OURS, PAGE, said_of
from orchestrator.prefect_lane.flow import ProcessFlow
from orchestrator.prefect_lane.worker import WarmWorker
from orchestrator.schedule import Schedule

ANCHOR = datetime(2020, 1, 1, tzinfo=UTC)
"""Intervals count from here, so that a restart does not shift them."""
logger = logging.getLogger(__name__)


async def register(client: PrefectClient, app: Application) -> None:
    """Register the work pool and a deployment for each process; what is there as it should be is left alone.

    Schedules of processes that are no longer there are removed: of the deployments in our work pool with our tag.

    Args:
        client: Prefect's client.
        app: The application, with its processes and settings.
    """
    work_pool = app.settings.prefect.work_pool
    template = WarmWorker.get_default_base_job_template()
    with suppress(ObjectAlreadyExists):
        await client.create_work_pool(WorkPoolCreate(name=work_pool, type=WarmWorker.type, base_job_template=template))
    for name, process in app.processes.items():
        try:
            await _deploy(client, app, ProcessFlow(process))
        except Exception as exc:  # noqa: BLE001 - the others are registered all the same
            logger.warning("Process %s cannot be registered in Prefect (%s); its form may be old", name, exc)
    await _unschedule_others(client, app, work_pool)


async def _deploy(client: PrefectClient, app: Application, flow: ProcessFlow[Any, ..., Any]) -> None:
    wanted: dict[str, Any] = {
        **said_of(app, flow.name, app.health.ailing()),
        "version": flow.version,
        "work_pool_name": app.settings.prefect.work_pool,
        "parameter_openapi_schema": flow.parameters.model_dump_for_openapi(),
        "enforce_parameter_schema": True,
    }
    schedule = app.settings.schedule_of(flow.name, flow.definition.schedule)
    schedules = [_schedule(schedule)] if schedule else []
    if not await _stands(client, flow.name, wanted, schedules):
        flow_id = await client.create_flow(flow)
        await client.create_deployment(flow_id=flow_id, name=flow.name, schedules=schedules, **wanted)


async def _stands(
    client: PrefectClient, name: str, wanted: dict[str, Any], schedules: list[DeploymentScheduleCreate]
) -> bool:
    """Tell whether a deployment is there as wanted.

    To write it again would drop the runs that it has planned. Whether its schedule is paused is for operators to say.
    """
    try:
        found = await client.read_deployment_by_name(f"{name}/{name}")
    except ObjectNotFound:
        return False
    same = all(getattr(found, field) == value for field, value in wanted.items())
    return same and len(found.schedules) == len(schedules) and all(map(_is_same, found.schedules, schedules))


def _is_same(found: DeploymentSchedule, wanted: DeploymentScheduleCreate) -> bool:
    timing = found.schedule.model_dump_json() == wanted.schedule.model_dump_json()
    # Prefect forgets the input of a schedule that is paused in its UI; the claim of a scheduled run knows it.
    return timing and found.parameters in ({}, wanted.parameters)


async def _unschedule_others(client: PrefectClient, app: Application, work_pool: str) -> None:
    """Remove the schedules of processes that are not in this worker; their old runs stay where they are."""
    for deployment in await _ours(client):
        if deployment.name not in app.processes and deployment.work_pool_name == work_pool:
            for schedule in deployment.schedules:
                logger.warning("Process %s is no longer there: its schedule is removed from Prefect", deployment.name)
                await client.delete_deployment_schedule(deployment.id, schedule.id)


async def _ours(client: PrefectClient) -> list[DeploymentResponse]:
    found: list[DeploymentResponse] = []
    while page := await client.read_deployments(deployment_filter=OURS, limit=PAGE, offset=len(found)):
        found += page
    return found


def _schedule(schedule: Schedule) -> DeploymentScheduleCreate:
    timing: CronSchedule | IntervalSchedule | RRuleSchedule
    if schedule.cron is not None:
        timing = CronSchedule(cron=schedule.cron, timezone=schedule.timezone)
    elif schedule.rrule is not None:
        begin = "" if "DTSTART" in schedule.rrule else f"DTSTART:{ANCHOR:%Y%m%dT%H%M%S}\n"  # Prefect would add the same
        timing = RRuleSchedule(rrule=begin + schedule.rrule, timezone=schedule.timezone)
    else:
        interval = timedelta(seconds=schedule.every_seconds or 0)
        timing = IntervalSchedule(interval=interval, anchor_date=ANCHOR, timezone=schedule.timezone)
    return DeploymentScheduleCreate(schedule=timing, parameters={"request": schedule.request})
