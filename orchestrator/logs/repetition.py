"""Keeps whoever causes a line of the log from filling the disk with it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

REPEAT_SECONDS = 60.0
"""The same line is written again after so long."""


@dataclass
class _Written:
    again_at: float
    left_out: int = 0


class RepeatFilter(logging.Filter):
    """Lets each message of a logger through once in a while, and says how often it was left out.

    Two lines are the same if their format is, whatever its arguments.

    Args:
        clock: Tells the time, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._written: dict[str, _Written] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line is written."""
        now, message = self._clock(), str(record.msg)
        last = self._written.get(message)
        if last is not None and now < last.again_at:
            last.left_out += 1
            return False
        self._written[message] = _Written(now + REPEAT_SECONDS)
        if last is not None and last.left_out:
            record.msg, record.args = f"{record.getMessage()} ({last.left_out} more since the last such line)", ()
        return True
