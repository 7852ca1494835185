"""Sees whether connections that did not work do so again."""

from __future__ import annotations

import logging
from threading import Event

from orchestrator.bindings import check_connections
from orchestrator.bindings.guard import ConnectionState
from orchestrator.bootstrap import Application
from orchestrator.errors import OrchestratorError

WATCH_SECONDS = 30.0
logger = logging.getLogger(__name__)


def watch(app: Application, stop: Event, every_seconds: float = WATCH_SECONDS) -> None:
    """Check the connections that do not work, again and again, until the worker stops."""
    while not stop.wait(every_seconds):
        try:
            look_again(app)
        except OrchestratorError as exc:
            logger.warning("Connections cannot be watched: %s", exc)
        except Exception as exc:  # noqa: BLE001 - the next round tries again
            logger.error("Connections cannot be watched: %s", type(exc).__name__)  # noqa: TRY400 - may name a person


def look_again(app: Application) -> None:
    """Check the connections that do not work; the runs that wait for one that does work again go on."""
    ailing = [each.connection for each in app.health.ailing() if each.connection in app.connections]
    for found in check_connections(app.connections, ailing):
        if found.ok:
            app.guarded(found.name).guard.answers()
            app.health.report(found.name, ConnectionState.WORKING, "")
            logger.info("Connection %s works again", found.name)
