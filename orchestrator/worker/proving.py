"""Lets probes prove that they see what was done."""

from __future__ import annotations

import logging
from threading import Event

from orchestrator.bootstrap import Application
from orchestrator.errors import OrchestratorError

PROVING_SECONDS = 30.0
logger = logging.getLogger(__name__)


def prove(app: Application, stop: Event, every_seconds: float = PROVING_SECONDS) -> None:
    """Prove the probes of the connections that work, one after the other, again and again, until the worker stops."""
    while not stop.is_set():
        prove_once(app, stop)
        stop.wait(every_seconds)


def prove_once(app: Application, stop: Event) -> None:
    """Let each probe look that has something to look for."""
    ailing = {each.connection for each in app.health.ailing()}
    for name in app.connections:
        if stop.is_set() or name in ailing:
            continue
        try:
            app.proofs.look(name)
        except OrchestratorError as exc:
            logger.info("Connection %s cannot look for what it did: %s", name, exc)
        except Exception as exc:  # noqa: BLE001 - the next round tries again
            logger.error("Connection %s: %s", name, type(exc).__name__)  # noqa: TRY400 - may name a person
