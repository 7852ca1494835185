"""What a deployment says to whoever is about to start the process.

It says which connection does not work, and that a schedule which was made in Prefect has no input that fits: above its
description, and of a connection also by a tag that lists show. The record is right: whatever worker looks at it,
at its start or later, finds the same words.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse

from orchestrator.bindings.guard import ConnectionState
from orchestrator.bindings.health import UnhealthyConnection
from orchestrator.bootstrap import Application
from orchestrator.errors import ConfigurationError
from orchestrator.prefect_lane.claims import scheduled_request
from orchestrator.prefect_lane.mirror import is_refusal
from orchestrator.prefect_lane.states import TAG
from orchestrator.record.clock import moment, stamp

PAGE = 200
OURS = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
_AILS: Mapping[ConnectionState, str] = MappingProxyType(
    {ConnectionState.DENIED: "refuses its credential", ConnectionState.DOWN: "does not answer"}
)
logger = logging.getLogger(__name__)


class ConnectionNotices:
    """Brings what deployments say of connections up to date.

    Args:
        app: The application.
        client: Prefect's client.
    """

    def __init__(self, app: Application, client: SyncPrefectClient) -> None:
        self._app = app
        self._client = client
        self._said: list[UnhealthyConnection] | None = None

    def catch_up(self) -> None:
        """Say what the record says now; the first time, compare in any case.

        Raises:
            httpx.HTTPError: Prefect does not answer, or is busy; what is left is said next time.
        """
        ailing = self._app.health.ailing()
        if ailing == self._said:
            return
        for deployment in self._ours():
            self._say(deployment, ailing)
        self._said = ailing

    def _ours(self) -> Iterator[DeploymentResponse]:
        """Return the deployments of our processes in our work pool."""
        offset = 0
        while page := self._client.read_deployments(deployment_filter=OURS, limit=PAGE, offset=offset):
            offset += len(page)
            for each in page:
                if each.name in self._app.processes and each.work_pool_name == self._app.settings.prefect.work_pool:
                    yield each

    def _say(self, deployment: DeploymentResponse, ailing: Sequence[UnhealthyConnection]) -> None:
        wanted = said_of(self._app, deployment.name, ailing, deployment.schedules)
        if all(getattr(deployment, field) == value for field, value in wanted.items()):
            return
        before = stamp(datetime.now(UTC))
        try:
            self._client.update_deployment(deployment.id, DeploymentUpdate(**wanted))
            if deployment.schedules:  # Prefect drops what it has planned, and would miss what falls due meanwhile
                again = {"id": deployment.id}
                self._client.request(
                    "POST", "/deployments/{id}/schedule", path_params=again, json={"start_time": before}
                )
        except httpx.HTTPStatusError as exc:
            if not is_refusal(exc.response.status_code):
                raise
            logger.warning("Prefect refuses to say of %s what ails it (%s)", deployment.name, exc.response.status_code)


def said_of(
    app: Application, process: str, ailing: Sequence[UnhealthyConnection], schedules: Sequence[DeploymentSchedule] = ()
) -> dict[str, Any]:
    """Return the description and the tags of a process's deployment.

    Args:
        app: The application.
        process: The process's name.
        ailing: The connections that do not work.
        schedules: The deployment's schedules, as Prefect has them.
    """
    needed = _connections_of(app, process)
    mine = [each for each in ailing if each.connection in needed]
    said = [*map(_sentence, mine), *([] if all(_fits(app, process, each) for each in schedules) else [_unfit(process)])]
    return {
        "description": "\n\n".join([*said, app.processes[process].description]),
        "tags": [TAG, *sorted({f"connection-{each.state}" for each in mine})],
    }


def _fits(app: Application, process: str, schedule: DeploymentSchedule) -> bool:
    """Tell whether the runs of a schedule have an input that the process takes."""
    try:
        app.processes[process].read(scheduled_request(app, process, schedule.parameters))
    except ConfigurationError:
        return False
    return True


def _unfit(process: str) -> str:
    return (
        "**A schedule that was made in Prefect has no input that fits, so each of its runs will fail.** Delete it, and "
        f"write the schedule with its input below `[processes.{process}.schedule]` in the configuration."
    )


def _connections_of(app: Application, process: str) -> set[str]:
    """Return the connections that answer a process's needs, and those whose mail starts it."""
    needed = {box.connection for box in app.settings.mailboxes.values() if box.process == process}
    for capability in app.definition(process).needs.values():
        with suppress(ConfigurationError):  # `orchestrator check` tells
            needed.add(app.connections.connection_for(process, app.plugins.capabilities().of(capability).name))
    return needed


def _sentence(ailing: UnhealthyConnection) -> str:
    """Say what ails a connection, in Markdown."""
    since = f"{moment(ailing.since):%Y-%m-%d %H:%M} UTC"
    reason = " ".join(ailing.reason.split()).rstrip(".")
    return (
        f"**Connection `{ailing.connection}` {_AILS[ailing.state]} since {since}:** {reason}. "
        "What needs it waits, and goes on by itself once it works again."
    )
