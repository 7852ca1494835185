"""Shows runs in Prefect that were executed outside of it."""

from __future__ import annotations

import logging
from threading import Event

import httpx

from orchestrator.bootstrap import Application
from orchestrator.prefect_lane.mirror import PrefectMirror

MIRROR_SECONDS = 5.0
"""How often runs are shown that other workers ended."""
MIRROR_RETRY_SECONDS = 5.0
logger = logging.getLogger(__name__)


def mirror(app: Application, stop: Event, registered: Event) -> None:
    """Show ended and stopped runs in Prefect, once it knows our processes, until the worker stops."""
    shown_in = PrefectMirror(app)
    registered.wait()
    while not stop.is_set():
        app.ended.clear()
        try:
            shown_in.catch_up()
        except httpx.HTTPError as exc:
            logger.info("Prefect does not take runs now (%s); they are shown later", type(exc).__name__)
            stop.wait(MIRROR_RETRY_SECONDS)
        except Exception as exc:  # noqa: BLE001 - what Prefect shows never stops the work
            logger.error("Runs cannot be shown in Prefect: %s", type(exc).__name__)  # noqa: TRY400 - as above
            stop.wait(MIRROR_RETRY_SECONDS)
        app.ended.wait(MIRROR_SECONDS)
