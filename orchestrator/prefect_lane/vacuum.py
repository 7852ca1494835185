"""Deletes old flow runs of ours in Prefect, through its API: one at a time, so that Prefect has time for others."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import httpx

from orchestrator.bootstrap import Application
from orchestrator.kernel import run_queries
from orchestrator.prefect_lane.states import TAG
from orchestrator.record.clock import stamp
from orchestrator.retention import audit_vacuum

BATCH = 50
TERMINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")


class PrefectRetention:
    """Deletes flow runs that ended long ago, with their tables of steps; Prefect itself deletes their logs.

    A flow run whose run has not ended on the record (it is parked, or goes on later) is left alone.

    Args:
        app: The application.
        http: A client of Prefect's API.
    """

    def __init__(self, app: Application, http: httpx.Client) -> None:
        self._record = app.record
        self._days = app.settings.retention.prefect_days
        self._http = http
        self.rule = f"[retention] prefect_days = {self._days}"

    def vacuum(self, rest: Callable[[float], bool]) -> int:
        """Delete what is old; after each deletion, rest for as long as it took.

        Args:
            rest: Waits for so many seconds; says whether to stop.

        Returns:
            How many flow runs were deleted.

        Raises:
            httpx.HTTPError: Prefect does not answer, or is busy; what is left is deleted next time.
        """
        before = stamp(self._record.clock() - timedelta(days=self._days))
        deleted = kept = 0
        while found := self._old(before, offset=kept):
            waiting = self._waiting(found)
            kept += len(waiting)
            done = self._delete_all([each for each in found if each not in waiting], before, rest)
            deleted += done
            if done + len(waiting) < len(found):
                break
        return deleted

    def _delete_all(self, flow_runs: list[str], before: str, rest: Callable[[float], bool]) -> int:
        deleted = 0
        try:
            for flow_run_id in flow_runs:
                began = time.monotonic()
                self._delete(flow_run_id)
                deleted += 1
                if rest(time.monotonic() - began):
                    break
        finally:
            if deleted:
                data = {"rule": self.rule, "flow_runs": deleted, "ended_before": before}
                with self._record.store.write() as tx:
                    audit_vacuum(self._record, tx, "prefect.vacuumed", data)
        return deleted

    def _old(self, before: str, *, offset: int) -> list[str]:
        ours = {
            "tags": {"all_": [TAG]},
            "state": {"type": {"any_": TERMINAL}},
            "end_time": {"before_": before},
        }
        body = {"flow_runs": ours, "sort": "EXPECTED_START_TIME_ASC", "limit": BATCH, "offset": offset}
        return [str(found["id"]) for found in self._call("POST", "/flow_runs/filter", body)]

    def _waiting(self, flow_runs: Collection[str]) -> set[str]:
        """Return those whose run has not ended."""
        with self._record.store.read() as tx:
            return run_queries.open_among(tx, flow_runs)

    def _delete(self, flow_run_id: str) -> None:
        mine = {"artifacts": {"flow_run_id": {"any_": [flow_run_id]}}}
        for artifact in self._call("POST", "/artifacts/filter", mine):
            self._call("DELETE", f"/artifacts/{artifact['id']}")
        self._call("DELETE", f"/flow_runs/{flow_run_id}")

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._http.request(method, path, json=body)
        if method == "DELETE" and answer.status_code == HTTPStatus.NOT_FOUND:  # another worker was first
            return None
        answer.raise_for_status()
        return answer.json() if answer.content else None
