"""Says that this worker is alive, as long as all of it is."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Sequence
from threading import Event, Thread

from orchestrator.bootstrap import Application
from orchestrator.record.heartbeat import BEAT_SECONDS, WORKER, Heartbeat

logger = logging.getLogger(__name__)


def beat(app: Application, stop: Event, threads: Sequence[Thread]) -> None:
    """Give signs of life until the worker stops.

    If one of its threads has died, the worker stops: whoever watches over it starts it again.

    Args:
        app: The application.
        stop: Set when the worker is to stop.
        threads: What the worker consists of.
    """
    heartbeat = Heartbeat(app.record, WORKER)
    while not stop.is_set():
        if dead := [thread.name for thread in threads if thread.ident and not thread.is_alive()]:
            logger.critical("Thread %s of this worker has died: the worker stops, to be started again", dead[0])
            os.kill(os.getpid(), signal.SIGTERM)
            return
        _try(heartbeat.beat)
        stop.wait(BEAT_SECONDS)
    _try(heartbeat.end)


def _try(write: Callable[[], None]) -> None:
    try:
        write()
    except Exception as exc:  # noqa: BLE001 - the next one may succeed; until then this worker counts as dead
        logger.warning("No sign of life can be written: %s", type(exc).__name__)
