"""One flow run of Prefect: the same kernel call as everywhere, shown step by step as task runs.

No value of a run passes through Prefect: states carry messages of ours alone, and errors of client
libraries, whose texts may name persons, stay outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from prefect import Task, get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import FlowRun, State
from prefect.context import FlowRunContext
from prefect.exceptions import Abort
from prefect.states import Cancelled, Completed, Failed

from orchestrator.bootstrap import Application, application
from orchestrator.errors import (
    AwaitingDecision,
    ConfigurationError,
    LeaseLost,
    OrchestratorError,
    RunCancelled,
    RunFailed,
    RunParked,
    RunPostponed,
)
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.runs import RunState
from orchestrator.prefect_lane.claims import actor_of, run_of, show_again
from orchestrator.prefect_lane.form import Form, Forms
from orchestrator.prefect_lane.states import PARKED, POSTPONED, with_history, with_remedy

ASKED = "Asked"
BARE = "a process runs in Prefect or through the kernel, never by its bare function"


class TaskRuns:
    """Shows each step as a task run under its business title."""

    shows_end = True

    def show(self, title: str, step: Callable[[], Any]) -> Any:
        """Run the step inside a Prefect task, and return or raise outside of it."""
        outcome = _Outcome(step)
        Task(fn=outcome.reach, name=title, task_run_name=title, persist_result=False, retries=0)(return_state=True)
        return outcome.give()


class _Outcome:
    """Keeps a step's answer or error away from Prefect."""

    def __init__(self, step: Callable[[], Any]) -> None:
        self._step = step
        self._answer: Any = None
        self._error: BaseException | None = None

    def reach(self) -> State[Any]:
        """Take the step, and return the state that Prefect is to show."""
        try:
            self._answer = self._step()
        except AwaitingDecision as exc:
            self._error = exc
            return Completed(name=ASKED, message=str(exc))
        except Exception as exc:  # noqa: BLE001 - raised again by `give`
            self._error = exc
            return Failed(message=_said(exc))
        return Completed()

    def give(self) -> Any:
        """Return the answer or raise the error."""
        if self._error is not None:
            raise self._error
        return self._answer


def run_in_prefect(process: ProcessDefinition, request: Any) -> Any:
    """Execute the run of the present flow run.

    Args:
        process: The process.
        request: A reference to a run on the record, or the form as an operator filled it in.

    Returns:
        The result of the process, or the state that says why there is none.

    Raises:
        Abort: Another worker has the run: how it ends is not for this one to say.
    """
    app = application()
    flow_run = _flow_run()
    try:
        run_id = _run_id(app, process, request, flow_run)
    except ConfigurationError as exc:
        return Failed(message=str(exc), data=exc)
    get_run_logger().info("On the record as run %s; see: orchestrator audit show %s", run_id, run_id)
    try:
        return app.kernel.execute(process, run_id, TaskRuns())
    except RunParked as exc:
        return _asks(app, run_id, flow_run) or Failed(name=PARKED, message=with_history(str(exc), run_id), data=exc)
    except RunPostponed as exc:
        return Failed(name=POSTPONED, message=f"{exc}; tried again at {exc.due_at:%H:%M:%S} UTC", data=exc)
    except LeaseLost as exc:
        get_run_logger().warning("Run %s: the lease was lost: %s", run_id, exc)
        raise Abort(str(exc)) from exc
    except RunCancelled as exc:
        return Cancelled(message=str(exc))
    except RunFailed as exc:
        return Failed(message=with_remedy(str(exc), run_id), data=exc)


def _run_id(app: Application, process: ProcessDefinition, request: Any, flow_run: FlowRun) -> str:
    known = run_of(app, flow_run)
    if known is None:
        actor = actor_of(flow_run)
        return app.open_run(process, process.read(request), actor=actor, prefect_run_id=str(flow_run.id))
    if known.state in (RunState.PARKED, RunState.FAILED):  # somebody pressed Retry
        app.runs.resume(known.run_id, actor_of(flow_run), reserved=True)
    return known.run_id


def _flow_run() -> FlowRun:
    flow_run = _context().flow_run
    if flow_run is None:
        raise RunFailed(BARE)
    return flow_run


def _context() -> FlowRunContext:
    context = FlowRunContext.get()
    if context is None:
        raise RunFailed(BARE)
    return context


def _asks(app: Application, run_id: str, flow_run: FlowRun) -> State[Any] | None:
    """Return the state that shows a form, if the run waits for an answer and Prefect can resume the flow run."""
    waiting, client = app.people.waiting_of(run_id), _context().client
    if waiting is None or not isinstance(client, SyncPrefectClient):
        return None
    form = Form(waiting)
    try:
        if client.read_flow_run(flow_run.id).deployment_id is None:
            return None
        Forms(client).put(flow_run.id, form)
    except httpx.HTTPError:
        show_again(app, run_id)
        return None
    return State.model_validate(form.state())


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, OrchestratorError) else type(error).__name__
