"""A warm Prefect worker: processes are imported once, and flow runs are executed in this process."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.abc
from anyio.to_thread import run_sync
from prefect.client.schemas import FlowRun
from prefect.flow_engine import run_flow
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult

from orchestrator.bootstrap import application
from orchestrator.errors import NotRecorded


class WarmWorkerResult(BaseWorkerResult):
    """How a flow run ended here."""


class WarmWorker(BaseWorker[BaseJobConfiguration, BaseVariables, WarmWorkerResult]):
    """Executes flow runs of our processes in this very process, in a thread each."""

    type = "orchestrator"
    job_configuration = BaseJobConfiguration
    _description = "Executes orchestrator processes in a warm worker."

    async def run(
        self,
        flow_run: FlowRun,
        configuration: BaseJobConfiguration,  # noqa: ARG002 - Prefect's signature
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> WarmWorkerResult:
        """Execute one flow run."""
        if task_status is not None:
            task_status.started(f"{self.name}/{flow_run.id}")
        flow = await self.client.read_flow(flow_run.flow_id)
        process = application().processes.get(flow.name)
        if process is None:
            raise NotRecorded(f"no process {flow.name} in this worker; is its plug-in installed and switched on?")
        await run_sync(
            lambda: run_flow(process, flow_run=flow_run, parameters=flow_run.parameters, return_type="state")
        )
        # How the run ended stands in Prefect already. Any other code would make the worker report a crash, which
        # overwrites a *Retry* that somebody pressed in the meantime.
        return WarmWorkerResult(identifier=str(flow_run.id), status_code=0)
