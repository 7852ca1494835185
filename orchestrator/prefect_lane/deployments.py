"""Every process is a deployment in Prefect, with its form and its schedule."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.exceptions import ObjectAlreadyExists

from orchestrator.prefect_lane.mirror import TAG
from orchestrator.prefect_lane.worker import WarmWorker
from orchestrator.process import ProcessFlow
from orchestrator.settings import ScheduleSettings


async def register(
    client: PrefectClient,
    processes: dict[str, ProcessFlow[..., Any]],
    schedules: dict[str, ScheduleSettings],
    *,
    work_pool: str,
) -> dict[str, UUID]:
    """Register the work pool and a deployment for each process; doing it again changes nothing.

    Args:
        client: Prefect's client.
        processes: The processes by name.
        schedules: The schedules by process name.
        work_pool: The work pool's name.

    Returns:
        Process name to deployment id.
    """
    template = WarmWorker.get_default_base_job_template()
    with suppress(ObjectAlreadyExists):
        await client.create_work_pool(WorkPoolCreate(name=work_pool, type=WarmWorker.type, base_job_template=template))
    return {name: await _deploy(client, flow, schedules.get(name), work_pool) for name, flow in processes.items()}


async def _deploy(
    client: PrefectClient, flow: ProcessFlow[..., Any], schedule: ScheduleSettings | None, work_pool: str
) -> UUID:
    flow_id = await client.create_flow(flow)
    return await client.create_deployment(
        flow_id=flow_id,
        name=flow.name,
        version=flow.version,
        description=flow.description,
        schedules=[_schedule(schedule)] if schedule else [],
        work_pool_name=work_pool,
        tags=[TAG],
        parameter_openapi_schema=flow.parameters.model_dump_for_openapi(),
        enforce_parameter_schema=True,
    )


def _schedule(settings: ScheduleSettings) -> DeploymentScheduleCreate:
    timing: CronSchedule | IntervalSchedule
    if settings.cron is not None:
        timing = CronSchedule(cron=settings.cron, timezone=settings.timezone)
    else:
        timing = IntervalSchedule(interval=timedelta(seconds=settings.every_seconds or 0), timezone=settings.timezone)
    return DeploymentScheduleCreate(schedule=timing, parameters={"request": settings.request})
