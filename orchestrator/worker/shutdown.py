"""Stops a program in time: what is under way is let go, and what does not let itself be stopped is left."""

from __future__ import annotations

import logging
import os
from threading import Event, Timer

STOP_SECONDS = 25.0
"""A worker is gone so long after SIGTERM at the latest: supervisors commonly grant 30 s."""
logger = logging.getLogger(__name__)


def stop(stopping: Event, within_seconds: float = STOP_SECONDS) -> None:
    """Tell everything to stop, and end this program at the latest when the time is over.

    What is cut off then is a run in the middle of a call: it goes on elsewhere once its lease has lapsed.

    Args:
        stopping: Tells everything to stop.
        within_seconds: How long that may take.
    """
    stopping.set()
    last_resort = Timer(within_seconds, _exit_at_once)
    last_resort.daemon = True
    last_resort.start()


def _exit_at_once() -> None:
    logger.warning("Stopped in the middle of something; what it was goes on elsewhere once its lease has lapsed")
    os._exit(0)
