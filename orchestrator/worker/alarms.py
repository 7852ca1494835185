"""Notifies people of what stopped, and of mail that waits for them."""

from __future__ import annotations

import logging
from threading import Event

from orchestrator.bootstrap import Application
from orchestrator.errors import OrchestratorError

LOOK_SECONDS = 2.0
"""How often is looked whether there is news."""
logger = logging.getLogger(__name__)


def notify_people(app: Application, stop: Event, every_seconds: float = LOOK_SECONDS) -> None:
    """Start the process for alarms whenever there is news, until the worker stops."""
    while True:
        try:
            while run_id := app.alarms.tell():
                logger.info("Run %s notifies people", run_id)
        except OrchestratorError as exc:
            logger.warning("Alarms: %s", exc)
        except Exception as exc:  # noqa: BLE001 - the next round tries again; nothing was moved
            logger.error("Alarms: %s", type(exc).__name__)  # noqa: TRY400 - may name a person
        if stop.wait(every_seconds):
            return
