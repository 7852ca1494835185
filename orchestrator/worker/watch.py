"""Sees whether connections that did not work do so again, and processes that could not be executed can be."""

from __future__ import annotations

import logging
from threading import Event

from orchestrator.bindings import check_connections
from orchestrator.bindings.guard import ConnectionState
from orchestrator.bootstrap import Application
from orchestrator.errors import OrchestratorError
from orchestrator.kernel.runs import waits_for_process

WATCH_SECONDS = 30.0
logger = logging.getLogger(__name__)


def watch(app: Application, stop: Event, every_seconds: float = WATCH_SECONDS) -> None:
    """Look at what does not work, at once and again and again, until the worker stops."""
    for process, why in app.hindrances().items():
        logger.warning("Process %s cannot be executed, and its runs wait: %s", process, why)
    while not stop.is_set():
        try:
            look_again(app)
        except OrchestratorError as exc:
            logger.warning("Connections cannot be watched: %s", exc)
        except Exception as exc:  # noqa: BLE001 - the next round tries again
            logger.error("Connections cannot be watched: %s", type(exc).__name__)  # noqa: TRY400 - may name a person
        stop.wait(every_seconds)


def look_again(app: Application) -> None:
    """Check the connections that do not work; the runs that wait for what is there again go on."""
    ailing = [each.connection for each in app.health.ailing() if each.connection in app.connections]
    for found in check_connections(app.connections, ailing):
        if found.ok:
            app.guarded(found.name).guard.answers()
            app.health.report(found.name, ConnectionState.WORKING, "")
            logger.info("Connection %s works again", found.name)
    waited_for = app.runs.waited_for()
    for process in app.processes:
        if (what := waits_for_process(process)) in waited_for and not app.hindrance(process):
            with app.record.store.write() as tx:
                woken = app.runs.wake_waiting_for(tx, what)
            logger.info("Process %s can be executed now: %d runs go on", process, woken)
