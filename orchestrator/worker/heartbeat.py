"""Says that this worker is alive."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event

from orchestrator.bootstrap import Application
from orchestrator.record.heartbeat import BEAT_SECONDS, WORKER, Heartbeat

logger = logging.getLogger(__name__)


def beat(app: Application, stop: Event) -> None:
    """Give signs of life until the worker stops, then sign off."""
    heartbeat = Heartbeat(app.record, WORKER)
    while not stop.is_set():
        _try(heartbeat.beat)
        stop.wait(BEAT_SECONDS)
    _try(heartbeat.end)


def _try(write: Callable[[], None]) -> None:
    try:
        write()
    except Exception as exc:  # noqa: BLE001 - the next one may succeed; until then this worker counts as dead
        logger.warning("No sign of life can be written: %s", type(exc).__name__)
