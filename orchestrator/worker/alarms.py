"""Tells people what stopped."""

from __future__ import annotations

import logging
from threading import Event

from orchestrator.bootstrap import Application
from orchestrator.errors import OrchestratorError

logger = logging.getLogger(__name__)


def tell_people(app: Application, every_seconds: float, stop: Event) -> None:
    """Start the process for alarms whenever there are news, until the worker stops."""
    while True:
        try:
            if run_id := app.alarms.tell():
                logger.info("Run %s tells people what stopped", run_id)
        except OrchestratorError as exc:
            logger.warning("Alarms: %s", exc)
        except Exception as exc:  # noqa: BLE001 - the next round tries again; nothing was moved
            logger.error("Alarms: %s", type(exc).__name__)  # noqa: TRY400 - may name a person
        if stop.wait(every_seconds):
            return
