"""Shows runs in Prefect that were executed outside of it: behind the customer's back, at Prefect's own pace.

A run that comes to an end, or stops, is marked in the same transaction (``run.mirror``). The mirror takes
the marked runs one by one, and marks them as shown only when Prefect has said yes; Prefect may be slow,
busy or away meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import httpx
from sqlalchemy import select, update

from orchestrator.bootstrap import Application
from orchestrator.capabilities import CAPABILITIES, operations_of
from orchestrator.kernel.runs import Mirror, Run
from orchestrator.prefect_lane.states import shown_state
from orchestrator.process import REFERENCE
from orchestrator.record.tables import run as run_table
from orchestrator.record.trail import Event

TAG = "orchestrator"
CALL_SECONDS = 10.0
BATCH = 50


class PrefectMirror:
    """Brings Prefect up to date.

    Args:
        app: The application.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._http = httpx.Client(base_url=app.settings.prefect.api_url, timeout=CALL_SECONDS)
        self._deployment_id = cache(self._find_deployment)

    def catch_up(self) -> int:
        """Show all runs that Prefect has not seen as they are.

        Returns:
            How many.

        Raises:
            httpx.HTTPError: Prefect does not answer, or is busy; what is left is shown next time.
        """
        shown = 0
        while marked := self._marked():
            for run in marked:
                self._show(run)
                shown += 1
        return shown

    def _marked(self) -> Sequence[Run]:
        chosen = select(run_table.c.run_id).where(run_table.c.mirror == Mirror.DUE).order_by(run_table.c.created_at)
        with self._app.record.store.read() as tx:
            ids = tx.execute(chosen.limit(BATCH)).scalars().all()
            return [self._app.runs.get(tx, run_id) for run_id in ids]

    def _show(self, run: Run) -> None:
        with self._app.record.store.read() as tx:
            events = self._app.record.trail.chain(tx, run.run_id)
        state = shown_state(run)
        if run.prefect_run_id is None:
            flow_run_id = self._create(run, state)
        else:
            flow_run_id = run.prefect_run_id
            self._post(f"/flow_runs/{flow_run_id}/set_state", {"state": state, "force": True})
        table = json.dumps(_steps(events))
        self._post("/artifacts/", {"type": "table", "data": table, "flow_run_id": flow_run_id, **_about(run)})
        self._mark_shown(run, flow_run_id)

    def _create(self, run: Run, state: dict[str, str]) -> str:
        """Create the flow run under its deployment, so that its *Retry* reaches our worker."""
        body = {
            "name": run.run_id,
            "parameters": {"request": REFERENCE + run.run_id},
            "enforce_parameter_schema": False,  # the form is for people; this is a reference
            "state": state,
            "tags": [TAG, *([f"case:{run.case_id}"] if run.case_id else [])],
            "idempotency_key": run.run_id,
        }
        return str(self._post(f"/deployments/{self._deployment_id(run.process)}/create_flow_run", body)["id"])

    def _mark_shown(self, run: Run, flow_run_id: str) -> None:
        """Mark the run as shown, unless it has moved on since."""
        unmoved = (run_table.c.run_id == run.run_id, run_table.c.fence == run.fence, run_table.c.state == run.state)
        with self._app.record.store.write() as tx:
            tx.execute(update(run_table).where(*unmoved).values(mirror=Mirror.SHOWN))
            mine = (run_table.c.run_id == run.run_id, run_table.c.prefect_run_id.is_(None))
            tx.execute(update(run_table).where(*mine).values(prefect_run_id=flow_run_id))

    def _find_deployment(self, process: str) -> str:
        answer = self._http.get(f"/deployments/name/{process}/{process}")
        answer.raise_for_status()
        return str(answer.json()["id"])

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        answer = self._http.post(path, json=body)
        answer.raise_for_status()
        return answer.json()


def _about(run: Run) -> dict[str, Any]:
    seen = f"run {run.run_id}; the whole record: `orchestrator audit show {run.run_id}`"
    return {"description": f"Steps of {seen}"}


def _steps(events: Sequence[Event]) -> list[dict[str, str]]:
    """Return the table of steps: what was done through which connection, and how it went. No personal data."""
    return [
        {
            "at": event.at[11:23],
            "step": str(event.context.step),
            "what": _title(event),
            "connection": event.context.connection or "",
            "event": event.kind,
        }
        for event in events
        if event.context.step is not None
    ]


def _title(event: Event) -> str:
    operations = operations_of(CAPABILITIES[str(event.context.capability)])
    return operations[str(event.context.operation)].title
