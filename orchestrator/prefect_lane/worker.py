"""A warm Prefect worker: processes are imported once, and flow runs are executed in this process."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

import anyio
import anyio.abc
import httpx
from prefect.client.schemas import FlowRun
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult

from orchestrator.bootstrap import application
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.prefect_lane.execution import execute_flow_run
from orchestrator.prefect_lane.flow import ProcessFlow

IN_FLIGHT = 4
"""At most so many flow runs are executed at once."""
AHEAD = timedelta(seconds=20)
"""Prefect is asked for what falls due in this time, so that scheduled runs begin on the dot between two polls."""
LEFT = timedelta(seconds=2)
"""A flow run that was not executed here (another worker has it, or the store is away) is left alone for so long."""
PAUSES = (0.0, 0.05, 0.1, 0.2, 0.4)
"""Prefect tells of a new flow run shortly before its own store shows it: it is looked for this often, in seconds."""
logger = logging.getLogger(__name__)


class WarmWorkerResult(BaseWorkerResult):
    """How a flow run ended here."""


class WarmWorker(BaseWorker[BaseJobConfiguration, BaseVariables, WarmWorkerResult]):
    """Executes flow runs of our processes in this very process, in a thread each.

    A flow run is claimed on our record, which is fenced, instead of by Prefect's state *Pending*, which
    nobody heals when a worker dies. Prefect is polled seldom; events tell what is to be done now.
    """

    type = "orchestrator"
    job_configuration = BaseJobConfiguration
    _description = "Executes orchestrator processes in a warm worker."

    def __init__(self, work_pool_name: str, **options: Any) -> None:
        super().__init__(work_pool_name, **options)
        self._pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="flow-run")
        self._under_way: set[UUID] = set()
        self._left: dict[UUID, datetime] = {}
        self._flow_names: dict[UUID, str] = {}
        self._refused: set[UUID] = set()
        self._expected: set[UUID] = set()
        self._next_due: datetime | None = None
        self._polling = anyio.Lock()
        self._woken = anyio.Event()

    def wake(self, flow_run_id: UUID | None = None) -> None:
        """Look for flow runs now.

        Args:
            flow_run_id: One that is known to be scheduled, even if Prefect does not show it yet.
        """
        if flow_run_id is not None:
            self._expected.add(flow_run_id)
            self._left.pop(flow_run_id, None)
        self._woken.set()

    async def serve_wakes(self) -> None:
        """Look for flow runs whenever there may be some, until cancelled."""
        while True:
            with anyio.move_on_after(self._seconds_to_next_due()):
                await self._woken.wait()
            self._woken, self._next_due = anyio.Event(), None
            await self._look()

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Execute the flow runs that are due, as far as there are threads left for them.

        Returns:
            Those that were begun.
        """
        async with self._polling:
            now = datetime.now(UTC)
            found = await self.client.get_scheduled_flow_runs_for_work_pool(
                work_pool_name=self._work_pool_name, scheduled_before=now + AHEAD
            )
            self._left = {flow_run_id: until for flow_run_id, until in self._left.items() if until > now}
            busy = self._under_way | self._left.keys()
            waiting = [each.flow_run for each in found if each.flow_run.id not in busy]
            self._expected -= {run.id for run in waiting}
            self._next_due = min((at for run in waiting if (at := _due(run)) > now), default=None)
            due = [run for run in waiting if _due(run) <= now]
            return [run for run in due if len(self._under_way) < IN_FLIGHT and await self._begin(run)]

    def close(self) -> None:
        """Begin nothing more; what is under way stops before its next step."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def run(
        self,
        flow_run: FlowRun,
        configuration: BaseJobConfiguration,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> WarmWorkerResult:
        """Refuse: flow runs are executed as they are found."""
        raise NotImplementedError

    async def _look(self) -> None:
        for pause in PAUSES:
            await anyio.sleep(pause)
            with suppress(httpx.HTTPError):  # the polls go on, and tell if Prefect was lost
                await self.get_and_submit_flow_runs()
            if not self._expected:
                return
        self._expected.clear()  # somebody else has it by now

    async def _begin(self, flow_run: FlowRun) -> bool:
        process = await self._process_of(flow_run)
        if process is None:
            return False
        self._under_way.add(flow_run.id)
        loop = asyncio.get_running_loop()

        def tell(execution: Future[bool]) -> None:
            executed = not execution.cancelled() and execution.exception() is None and execution.result()
            with suppress(RuntimeError):  # the worker has stopped meanwhile
                loop.call_soon_threadsafe(self._ended, flow_run.id, executed)

        self._pool.submit(execute_flow_run, application(), process, flow_run).add_done_callback(tell)
        return True

    def _ended(self, flow_run_id: UUID, executed: bool) -> None:
        self._under_way.remove(flow_run_id)
        if not executed:
            self._left[flow_run_id] = datetime.now(UTC) + LEFT
        self.wake()

    async def _process_of(self, flow_run: FlowRun) -> ProcessFlow[Any, ..., Any] | None:
        if flow_run.flow_id not in self._flow_names:
            self._flow_names[flow_run.flow_id] = (await self.client.read_flow(flow_run.flow_id)).name
        name = self._flow_names[flow_run.flow_id]
        process = application().processes.get(name)
        if process is None and flow_run.id not in self._refused:
            self._refused.add(flow_run.id)
            logger.warning(
                "Prefect wants process %s executed, and it is not in this worker: is its plug-in installed and "
                "switched on? Flow run %s waits for a worker that has it",
                name,
                flow_run.id,
            )
        return None if process is None else _flow(process)

    def _seconds_to_next_due(self) -> float:
        if self._next_due is None:
            return float("inf")
        return max((self._next_due - datetime.now(UTC)).total_seconds(), 0.0)


@cache
def _flow(process: ProcessDefinition) -> ProcessFlow[Any, ..., Any]:
    return ProcessFlow(process)


def _due(flow_run: FlowRun) -> datetime:
    return flow_run.next_scheduled_start_time or datetime.now(UTC)
