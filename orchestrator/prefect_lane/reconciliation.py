"""Heals what Prefect never heals: flow runs that a dead worker or a dead server left as they were.

Prefect has no fencing and no lease: a flow run whose worker died stays *Pending* or *Running* for ever, and an
event that nobody heard is never told again. So what Prefect shows is compared with the record from time to time.
The record is right.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from datetime import UTC, datetime

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import FlowRun
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled, Scheduled

from orchestrator.bootstrap import Application
from orchestrator.errors import NotRecorded
from orchestrator.kernel import run_queries
from orchestrator.kernel.runs import Run, RunState
from orchestrator.prefect_lane.claims import run_of, show_again
from orchestrator.prefect_lane.deployment_notices import ConnectionNotices
from orchestrator.prefect_lane.events import cancelled_in_prefect

AT_ONCE = 200
"""At most so many flow runs are looked at each time."""
logger = logging.getLogger(__name__)


def heal(app: Application, client: SyncPrefectClient) -> None:
    """Compare what Prefect shows with the record, once, and correct what is wrong.

    Args:
        app: The application.
        client: Prefect's client.

    Raises:
        httpx.HTTPError: Prefect does not answer, or is busy.
    """
    for flow_run in _stuck(app, client):
        _heal(app, client, flow_run)
    for flow_run in _cancelled(app, client):
        cancelled_in_prefect(app, str(flow_run.id))
    for run_id in _deleted(app, client):
        logger.warning("Run %s waits, and its flow run was deleted in Prefect; it is shown again", run_id)
        show_again(app, run_id)
    ConnectionNotices(app, client).catch_up()


def _deleted(app: Application, client: SyncPrefectClient) -> Iterator[str]:
    """Return the runs that wait for a person, and whose flow runs are no longer there."""
    with app.record.store.read() as tx:
        runs = run_queries.parked_and_shown(tx)
    for begin in range(0, len(runs), AT_ONCE):
        some = runs[begin : begin + AT_ONCE]
        there = _flow_runs_of(client, [row.prefect_run_id for row in some])
        yield from (row.run_id for row in some if row.prefect_run_id not in there)


def _flow_runs_of(client: SyncPrefectClient, ids: Collection[str]) -> Collection[str]:
    """Return those of the flow runs that are there; as long as none is missing, Prefect only counts them."""
    chosen = {"flow_runs": {"id": {"any_": list(ids)}}}
    if client.request("POST", "/flow_runs/count", json=chosen).json() == len(ids):
        return ids
    found = client.request("POST", "/flow_runs/filter", json={**chosen, "limit": AT_ONCE}).json()
    return {each["id"] for each in found}


def _stuck(app: Application, client: SyncPrefectClient) -> list[FlowRun]:
    """Return the flow runs of our processes that seem to be under way for longer than a lease lasts, oldest first."""
    found = client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=list(app.processes))),
        flow_run_filter=_in_state(StateType.PENDING, StateType.RUNNING, StateType.CANCELLING),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=AT_ONCE,
    )
    before = datetime.now(UTC) - app.runs.lease
    return [each for each in found if each.state is not None and each.state.timestamp < before]


def _cancelled(app: Application, client: SyncPrefectClient) -> list[FlowRun]:
    """Return the flow runs that somebody cancelled in Prefect and whose runs are not over on the record."""
    with app.record.store.read() as tx:
        ids = list(run_queries.open_flow_runs(tx, AT_ONCE))
    if not ids:
        return []
    chosen = _in_state(StateType.CANCELLING, StateType.CANCELLED)
    chosen.id = FlowRunFilterId(any_=ids)
    return client.read_flow_runs(flow_run_filter=chosen, limit=AT_ONCE)


def _heal(app: Application, client: SyncPrefectClient, flow_run: FlowRun) -> None:
    run = _recorded(app, flow_run)
    if run is None:
        _heal_unrecorded(app, client, flow_run)
    elif flow_run.state_type is StateType.CANCELLING:
        cancelled_in_prefect(app, str(flow_run.id))
    elif run.state is not RunState.RUNNING:
        show_again(app, run.run_id)


def _heal_unrecorded(app: Application, client: SyncPrefectClient, flow_run: FlowRun) -> None:
    """Schedule a flow run again whose worker died before it began: nothing of it has happened."""
    if flow_run.work_pool_name != app.settings.prefect.work_pool:
        return  # somebody else's, who executes a process of the same name
    if flow_run.state_type is StateType.CANCELLING:
        client.set_flow_run_state(flow_run.id, Cancelled(message="It had not begun."), force=True)
    elif flow_run.state_type is StateType.PENDING:
        logger.warning("Flow run %s is scheduled again: its worker died before it began", flow_run.id)
        client.set_flow_run_state(flow_run.id, Scheduled(message="Its worker died before it began."))


def _recorded(app: Application, flow_run: FlowRun) -> Run | None:
    try:
        return run_of(app, flow_run)
    except NotRecorded:  # a reference into some other record
        return None


def _in_state(*types: StateType) -> FlowRunFilter:
    return FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types))))
