"""Who executes a flow run is decided on our record: Prefect lets two workers execute one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import FlowRun
from sqlalchemy.exc import IntegrityError

from orchestrator.bootstrap import Application
from orchestrator.errors import NotRecorded
from orchestrator.kernel import run_store
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.run_times import due_in
from orchestrator.kernel.runs import Run, RunState
from orchestrator.prefect_lane.answers import take_answers
from orchestrator.prefect_lane.states import REFERENCE
from orchestrator.record.trail import BY_PREFECTS_SCHEDULE, IN_PREFECT, Actor


def claim(app: Application, process: ProcessDefinition, flow_run: FlowRun, client: SyncPrefectClient) -> str | None:
    """Claim a flow run that Prefect wants executed, before Prefect hears a word of it.

    From here on the run's lease and the sweep see to its end, whatever becomes of this worker.

    Args:
        app: The application.
        process: The flow run's process.
        flow_run: What Prefect wants executed.
        client: Prefect's client: somebody may have answered a question there.

    Returns:
        The run to execute; None if another worker has it, or if there is nothing left to do.

    Raises:
        ConfigurationError: The form does not fit.
        httpx.HTTPError: Prefect does not answer, or is busy.
    """
    known = run_of(app, flow_run)
    if known is None:
        return _open(app, process, flow_run)
    if take_answers(app, client, flow_run.id):
        return known.run_id
    if known.state in (RunState.DONE, RunState.CANCELLED):
        show_again(app, known.run_id)
        return None
    return known.run_id if _reserve(app, known, flow_run) else None


def run_of(app: Application, flow_run: FlowRun) -> Run | None:
    """Return the run that a flow run executes, if it is on the record."""
    known = app.runs.of_prefect(str(flow_run.id))
    request = flow_run.parameters.get("request")
    if known is None and isinstance(request, str) and request.startswith(REFERENCE):
        with app.record.store.read() as tx:
            known = app.runs.get(tx, request.removeprefix(REFERENCE))
        app.runs.attach(known.run_id, str(flow_run.id))
    return known


def show_again(app: Application, run_id: str) -> None:
    """Have the mirror compare what Prefect shows of a run with the record."""
    with app.record.store.write() as tx:
        run_store.mark_due(tx, run_id)
    app.ended.set()


def actor_of(flow_run: FlowRun) -> Actor:
    """Say who started a flow run; Prefect's own word for a person can be forged, so it proves nothing."""
    if flow_run.auto_scheduled:
        return BY_PREFECTS_SCHEDULE
    return IN_PREFECT


def _open(app: Application, process: ProcessDefinition, flow_run: FlowRun) -> str | None:
    given = flow_run.parameters
    request = process.read(
        scheduled_request(app, process.name, given) if flow_run.auto_scheduled else given.get("request")
    )
    try:
        return app.open_run(process, request, actor=actor_of(flow_run), prefect_run_id=str(flow_run.id))
    except IntegrityError:  # another worker was quicker
        return None


def scheduled_request(app: Application, process: str, parameters: Mapping[str, Any]) -> object:
    """Return the form of what a schedule starts; Prefect forgets that of a schedule which was paused meanwhile."""
    schedule = app.settings.schedule_of(process, app.definition(process).schedule)
    return parameters.get("request", schedule.request if schedule else None)


def _reserve(app: Application, known: Run, flow_run: FlowRun) -> bool:
    """Reserve a run that stopped, on the word of whoever pressed *Retry*; one worker can."""
    if known.state in (RunState.PARKED, RunState.FAILED):
        try:
            app.runs.resume(known.run_id, actor_of(flow_run), reserved=True)
        except NotRecorded:
            return False
        return True
    with app.record.store.write() as tx:
        return run_store.reserve(tx, known.run_id, due_in(app.record, app.runs.lease))
