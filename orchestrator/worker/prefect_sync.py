"""Shows runs in Prefect that were executed outside of it, and corrects what Prefect shows wrongly."""

from __future__ import annotations

import logging
from threading import Event
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client

from orchestrator.bootstrap import Application
from orchestrator.prefect_lane.auth import auth_string, headers
from orchestrator.prefect_lane.deployment_notices import ConnectionNotices
from orchestrator.prefect_lane.mirror import PrefectMirror
from orchestrator.prefect_lane.reconciliation import heal

CALL_SECONDS = 10.0
MIRROR_SECONDS = 5.0
"""How often is shown what other programs brought about."""
RETRY_SECONDS = 1.0
"""A Prefect server that does not answer is asked again after so long, then after twice as long, and so on."""
LONGEST_RETRY_SECONDS = 10.0
logger = logging.getLogger(__name__)


def mirror(app: Application, stop: Event) -> None:
    """Show ended and stopped runs in Prefect, and connections that do not work, until the worker stops."""
    api_url, auth, hooks = app.settings.prefect.api_url, auth_string(app.settings), _refusing_once(stop)
    with (
        httpx.Client(base_url=api_url, headers=headers(auth), timeout=CALL_SECONDS, event_hooks=hooks) as http,
        SyncPrefectClient(api_url, auth_string=auth, httpx_settings={"event_hooks": hooks}) as client,
    ):
        _keep_up(app, ConnectionNotices(app, client), PrefectMirror(app, http, client), stop)


def _keep_up(app: Application, notices: ConnectionNotices, shown_in: PrefectMirror, stop: Event) -> None:
    pause = RETRY_SECONDS
    while not stop.is_set():
        app.ended.clear()
        seen = shown_in.shown
        try:
            notices.catch_up()
            shown_in.catch_up()
        except Exception as exc:  # noqa: BLE001 - what Prefect shows never stops the work
            logger.info("Prefect cannot be brought up to date now (%s); tried again", _what(exc))
            # A server that is busy, and gets on, is asked again soon; one that does not answer, less and less often.
            pause = RETRY_SECONDS if shown_in.shown > seen else min(2 * pause, LONGEST_RETRY_SECONDS)
            stop.wait(pause)
        else:
            pause = RETRY_SECONDS
            app.ended.wait(MIRROR_SECONDS)


def _refusing_once(stop: Event) -> dict[str, Any]:
    """Return what lets a client make no more calls once the worker stops, however many there are to make."""

    def refuse(request: httpx.Request) -> None:
        if stop.is_set():
            raise httpx.RequestError("this worker stops", request=request)

    return {"request": [refuse]}


def _what(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code}"
    return type(error).__name__


def correct(app: Application, stop: Event) -> None:
    """Compare what Prefect shows with the record, twice in the time that a lease lasts, until the worker stops."""
    while not stop.wait(app.runs.lease.total_seconds() / 2):
        try:
            with get_client({"event_hooks": _refusing_once(stop)}, sync_client=True) as client:
                heal(app, client)
        except httpx.HTTPError:
            logger.debug("Prefect does not answer; it is compared with the record later")
        except Exception as exc:  # noqa: BLE001 - the next round tries again
            logger.error("Prefect cannot be compared with the record: %s", type(exc).__name__)  # noqa: TRY400 - may name a person
