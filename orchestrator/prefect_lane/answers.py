"""Takes the answers that people fill in in Prefect."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import LogCreate

from orchestrator.bootstrap import Application
from orchestrator.errors import NotRecorded, RecordError
from orchestrator.kernel.runs import Run
from orchestrator.prefect_lane.form import FILLED_IN, FilledIn, Form, Forms
from orchestrator.prefect_lane.states import shown_state

LOGGER = "orchestrator.answers"


def take_answers(app: Application, client: SyncPrefectClient, flow_run_id: UUID) -> bool:
    """Take what was filled in for a flow run, and delete it in Prefect.

    Args:
        app: The application.
        client: Prefect's client.
        flow_run_id: The flow run.

    Returns:
        Whether its run goes on with an answer now; it is left to the caller for a while, who executes it.

    Raises:
        httpx.HTTPError: Prefect does not answer, or is busy; nothing is lost.
    """
    forms = Forms(client)
    refusals = [_take(app, filled_in) for filled_in in forms.filled_in(flow_run_id)]
    if refusals:
        forms.take_away(flow_run_id)
    if told := [refusal for refusal in refusals if refusal]:
        client.create_logs([_log(flow_run_id, f"The answer was not taken: {refusal}") for refusal in told])
    return "" in refusals


def state_in_prefect(app: Application, run: Run) -> dict[str, Any]:
    """Return the state that Prefect shows for a run that ended or stopped; a question has a form."""
    waiting = app.people.waiting_of(run.run_id)
    return shown_state(run) if waiting is None else Form(waiting).state()


def _take(app: Application, filled_in: FilledIn) -> str:
    """Put an answer on the record, or say why not."""
    try:
        decision = filled_in.decision(app.people.find(filled_in.question_id).question)
        app.people.answer(
            filled_in.question_id, decision, FILLED_IN, screen=filled_in.screen, reserved_for=app.runs.lease
        )
    except (NotRecorded, RecordError) as exc:
        return str(exc)
    return ""


def _log(flow_run_id: UUID, message: str) -> LogCreate:
    """Return a line for the operator, who looks at the flow run."""
    return LogCreate(
        name=LOGGER, level=logging.WARNING, message=message, timestamp=datetime.now(UTC), flow_run_id=flow_run_id
    )
