"""Executes one flow run in a thread of the warm worker; Prefect ends up showing what is recorded."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from threading import local
from typing import Any, cast

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import FlowRun
from prefect.client.schemas.objects import State
from prefect.context import SyncClientContext
from prefect.exceptions import PrefectSignal
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.bootstrap import Application
from orchestrator.errors import OrchestratorError
from orchestrator.prefect_lane.answers import state_in_prefect
from orchestrator.prefect_lane.claims import claim, show_again
from orchestrator.prefect_lane.flow import ProcessFlow
from orchestrator.prefect_lane.states import REFERENCE

logger = logging.getLogger(__name__)
_thread = local()


def execute_flow_run(app: Application, process: ProcessFlow[Any, ..., Any], flow_run: FlowRun) -> bool:
    """Claim a flow run and execute it; whatever happens, the worker goes on.

    Args:
        app: The application.
        process: The flow run's process.
        flow_run: The flow run as Prefect scheduled it.

    Returns:
        Whether it was executed here; if not, it stands in Prefect as it did.
    """
    try:
        run_id = claim(app, process.definition, flow_run, _prefect())
    except OrchestratorError as exc:
        logger.warning("Flow run %s: %s", flow_run.id, exc)
        _reported(process, flow_run, flow_run.parameters.get("request"))  # fails the same way, and Prefect shows why
        return True
    except Exception as exc:  # noqa: BLE001 - one flow run never takes the worker down
        logger.error("Flow run %s cannot be claimed: %s", flow_run.id, type(exc).__name__)  # noqa: TRY400 - may name a person
        return False
    if run_id is not None:
        _execute(app, process, flow_run, run_id)
    return run_id is not None


def _execute(app: Application, process: ProcessFlow[Any, ..., Any], flow_run: FlowRun, run_id: str) -> None:
    state = _reported(process, flow_run, REFERENCE + run_id)
    try:
        with app.record.store.read() as tx:
            run = app.runs.get(tx, run_id)
        if state is None or state.type.value != state_in_prefect(app, run)["type"]:
            show_again(app, run_id)
    except SQLAlchemyError as exc:  # what Prefect shows is compared with the record later
        logger.warning("The end of flow run %s cannot be compared now (%s)", flow_run.id, type(exc).__name__)
    app.ended.set()


def _reported(process: ProcessFlow[Any, ..., Any], flow_run: FlowRun, request: Any) -> State[Any] | None:
    """Execute the flow run in Prefect's engine.

    Returns:
        The state that Prefect shows now; None if it could not be told or did not want it.
    """
    # Without its deployment, the engine starts no observer of suspension: a thread and a connection a run.
    alone = flow_run.model_copy(update={"deployment_id": None})
    try:
        state = run_flow(process, flow_run=alone, parameters={"request": request}, return_type="state")
    except PrefectSignal as exc:
        logger.info("Flow run %s is not executed here: %s", flow_run.id, exc)
        return None
    except Exception as exc:  # noqa: BLE001 - Prefect is away or busy; the record knows what was done
        logger.warning("Prefect was lost in flow run %s (%s)", flow_run.id, type(exc).__name__)
        return None
    return cast("State[Any]", state)


def _prefect() -> SyncPrefectClient:
    """Keep one client of Prefect in each thread, and do without heartbeats: our lease is the heartbeat."""
    if not hasattr(_thread, "prefect"):
        _thread.prefect = ExitStack()
        _thread.prefect.enter_context(temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}))
        _thread.client = _thread.prefect.enter_context(SyncClientContext()).client
    return cast("SyncPrefectClient", _thread.client)
