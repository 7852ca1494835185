"""Passes the deadlines of questions that nobody has answered."""

from __future__ import annotations

import logging
from threading import Event

from orchestrator.bootstrap import Application
from orchestrator.errors import OrchestratorError

DEADLINE_SECONDS = 5.0
logger = logging.getLogger(__name__)


def pass_deadlines(app: Application, stop: Event, every_seconds: float = DEADLINE_SECONDS) -> None:
    """Look for deadlines that have passed, again and again, until the worker stops."""
    while not stop.wait(every_seconds):
        try:
            if passed := app.people.pass_deadlines():
                logger.info("%d questions are overdue; see: orchestrator decisions", passed)
                app.ended.set()
        except OrchestratorError as exc:
            logger.warning("Deadlines: %s", exc)
        except Exception as exc:  # noqa: BLE001 - the next round tries again; nothing was moved
            logger.error("Deadlines: %s", type(exc).__name__)  # noqa: TRY400 - may name a person
