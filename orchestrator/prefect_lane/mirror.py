"""Shows runs in Prefect that were executed outside of it: after the fact, at Prefect's own pace.

A run that comes to an end, or stops, is marked in the same transaction (``run.mirror``). The mirror takes
the marked runs one by one, and marks them as shown only when Prefect has said yes; Prefect may be slow,
busy or away meanwhile. A run is claimed while it is shown, so that several workers share the work; one that
Prefect refuses waits, and the others behind it do not.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient

from orchestrator.bootstrap import Application
from orchestrator.kernel import run_queries, run_store
from orchestrator.kernel.run_model import Run
from orchestrator.prefect_lane.form import Form, Forms
from orchestrator.prefect_lane.run_logs import course, log_of, outcome
from orchestrator.prefect_lane.states import REFERENCE, TAG, shown_state
from orchestrator.record.clock import moment
from orchestrator.record.trail import Event

CREATED = "created now"
"""Whether Prefect made a flow run just now, or had it already."""
BATCH = 50
CLAIM = timedelta(seconds=60)
"""A run that a worker began to show is left alone by the others for so long."""
REFUSED = timedelta(minutes=10)
"""A run that Prefect refuses is shown again after so long."""
UNKNOWN = timedelta(seconds=10)
"""One whose deployment or flow run is not there (yet, or any more), after so long."""
_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS})
logger = logging.getLogger(__name__)


class PrefectMirror:
    """Brings Prefect up to date.

    Args:
        app: The application.
        http: A client of Prefect's API.
        client: Prefect's own client.
    """

    def __init__(self, app: Application, http: httpx.Client, client: SyncPrefectClient) -> None:
        self._app = app
        self._http = http
        self._forms = Forms(client)
        self._deployments: dict[str, str] = {}
        self.shown = 0
        """How many runs it has shown so far."""

    def catch_up(self) -> None:
        """Show all runs that Prefect has not seen as they are.

        Raises:
            httpx.HTTPError: Prefect does not answer, or is busy; what is left is shown next time.
        """
        while marked := self._marked():
            for run in marked:
                self.shown += self._claim(run) and self._show_or_put_off(run)

    def _marked(self) -> Sequence[Run]:
        with self._app.record.store.read() as tx:
            return run_queries.to_show(tx, self._app.record.clock(), BATCH)

    def _claim(self, run: Run) -> bool:
        now = self._app.record.clock()
        with self._app.record.store.write() as tx:
            return run_store.claim_showing(tx, run.run_id, now=now, until=now + CLAIM)

    def _show_or_put_off(self, run: Run) -> bool:
        """Show a run; one that Prefect refuses is tried again later, and does not keep the others.

        Raises:
            httpx.HTTPError: Prefect does not answer, or is busy.
        """
        try:
            self._show(run)
        except httpx.HTTPError as exc:
            if not isinstance(exc, httpx.HTTPStatusError) or not is_refusal(exc.response.status_code):
                self._put_off(run, timedelta(0))
                raise
            missing = exc.response.status_code == HTTPStatus.NOT_FOUND
            self._put_off(run, UNKNOWN if missing else REFUSED, forget=missing)
            logger.warning("Prefect refuses to show run %s (HTTP %s)", run.run_id, exc.response.status_code)
            return False
        return True

    def _put_off(self, run: Run, span: timedelta, *, forget: bool = False) -> None:
        """Try again later; a flow run or deployment that somebody deleted in Prefect is made again then."""
        if forget:
            self._deployments.pop(run.process, None)
        with self._app.record.store.write() as tx:
            run_store.put_off_showing(tx, run.run_id, self._app.record.clock() + span, detach=forget)

    def _show(self, run: Run) -> None:
        with self._app.record.store.read() as tx:
            events = self._app.record.trail.chain(tx, run.run_id)
        waiting = self._app.people.waiting_of(run.run_id)
        state = _told(run, events) if waiting is None else Form(waiting).state()
        if waiting is None:
            flow_run = self._flow_run(run, state)
            self._set(flow_run, state)
            if any(event.context.capability == "people" for event in events):
                self._forms.take_away(UUID(flow_run["id"]))
        else:
            flow_run = self._show_form(run, Form(waiting), events)
        flow_run_id = str(flow_run["id"])
        table = json.dumps(_steps(events))
        self._post("/artifacts/", {"type": "table", "data": table, "flow_run_id": flow_run_id, **_about(run)})
        self._log(events, flow_run, state["message"])
        self._mark_shown(run, flow_run_id)

    def _show_form(self, run: Run, form: Form, events: Sequence[Event]) -> dict[str, Any]:
        """Show the form, unless somebody has just filled it in: then a worker takes the answer."""
        flow_run = self._flow_run(run, form.state())
        flow_run_id = UUID(flow_run["id"])
        if flow_run["deployment_id"] is None:  # nothing would resume it
            self._set(flow_run, _told(run, events))
        elif not any(self._forms.filled_in(flow_run_id)):
            self._forms.put(flow_run_id, form)
            self._set(flow_run, form.state())
        return flow_run

    def _log(self, events: Sequence[Event], flow_run: dict[str, Any], message: str) -> None:
        """Give the flow run its log, in one call; one that has a log already, what has happened since."""
        after = None if flow_run[CREATED] else self._newest_line(flow_run["id"])
        if lines := log_of(events, flow_run["id"], message=message, after=after):
            self._post("/logs/", lines)

    def _newest_line(self, flow_run_id: str) -> datetime | None:
        mine = {"logs": {"flow_run_id": {"any_": [flow_run_id]}}, "sort": "TIMESTAMP_DESC", "limit": 1}
        return next((moment(line["timestamp"]) for line in self._post("/logs/filter", mine).json()), None)

    def _flow_run(self, run: Run, state: dict[str, Any]) -> dict[str, Any]:
        """Return the run's flow run; a new one is created in this state."""
        if run.prefect_run_id is None:
            return self._create(run, state)
        return {**self._get(f"/flow_runs/{run.prefect_run_id}"), CREATED: False}

    def _set(self, flow_run: dict[str, Any], state: dict[str, Any]) -> None:
        if not _shows(flow_run, state):
            self._post(f"/flow_runs/{flow_run['id']}/set_state", {"state": state, "force": True})

    def _create(self, run: Run, state: dict[str, Any]) -> dict[str, Any]:
        """Create the flow run under its deployment, so that its *Retry* reaches our worker."""
        body = {
            "name": run.run_id,
            "parameters": {"request": REFERENCE + run.run_id},
            "enforce_parameter_schema": False,  # the form is for people; this is a reference
            "state": state,
            "tags": [TAG, *([f"case:{run.case_id}"] if run.case_id else [])],
            "idempotency_key": run.run_id,
        }
        answer = self._post(f"/deployments/{self._deployment_id(run.process)}/create_flow_run", body)
        return {**answer.json(), CREATED: answer.status_code == HTTPStatus.CREATED}

    def _mark_shown(self, run: Run, flow_run_id: str) -> None:
        """Mark the run as shown, unless it has moved on since."""
        with self._app.record.store.write() as tx:
            run_store.mark_shown(tx, run)
            run_store.attach(tx, run.run_id, flow_run_id, unless_attached=True)

    def _deployment_id(self, process: str) -> str:
        if process not in self._deployments:
            self._deployments[process] = str(self._get(f"/deployments/name/{process}/{process}")["id"])
        return self._deployments[process]

    def _get(self, path: str) -> Any:
        answer = self._http.get(path)
        answer.raise_for_status()
        return answer.json()

    def _post(self, path: str, body: object) -> httpx.Response:
        answer = self._http.post(path, json=body)
        answer.raise_for_status()
        return answer


def _shows(flow_run: dict[str, Any], state: dict[str, Any]) -> bool:
    shown = flow_run["state"] or {}
    if any(shown.get(key) != state[key] for key in ("type", "name")):
        return False
    wanted = state.get("state_details", {})
    return not wanted or (shown["message"] == state["message"] and wanted.items() <= shown["state_details"].items())


def is_refusal(status: int) -> bool:
    """Whether an answer is about the run that is shown, not about Prefect's own state."""
    return status // 100 == 4 and status not in _AGAIN  # noqa: PLR2004 - HTTP's class of the caller's mistakes


def _about(run: Run) -> dict[str, Any]:
    seen = f"run {run.run_id}; the whole record: `orchestrator audit show {run.run_id}`"
    return {"description": f"Steps of {seen}"}


def _steps(events: Sequence[Event]) -> list[dict[str, str]]:
    """Return the table of steps: what was done through which connection, and how it went. No personal data."""
    return [
        {
            "at": event.at[11:23],
            "step": str(event.context.step),
            "what": event.context.title or "",
            "connection": event.context.connection or "",
            "event": event.kind,
        }
        for event in events
        if event.context.step is not None
    ]


def _told(run: Run, events: Sequence[Event]) -> dict[str, Any]:
    """Return the state that Prefect shows, with its outcome, when it began and how long it took."""
    state = shown_state(run)
    named = f"Outcome: {word}." if (word := outcome(events)) else ""
    return {**state, "message": " ".join(filter(None, (state["message"], named, course(events))))}
