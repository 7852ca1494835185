"""Whether this process does anything: its event loop says so, and who supervises it waits for that."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio

BEAT_SECONDS = 1.0
HUNG_SECONDS = 30.0
"""An event loop that has not said anything for so long hangs."""


class Pulse:
    """The signs of life of one event loop.

    Args:
        clock: Tells the time, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.last: float | None = None
        """When it gave its last sign; None if it has not begun."""

    def beat(self) -> None:
        """Give a sign of life."""
        self.last = self._clock()

    @property
    def is_alive(self) -> bool:
        """Whether the loop has given a sign lately; one that has not begun yet is not missed."""
        return self.last is None or self._clock() - self.last < HUNG_SECONDS


pulse = Pulse()
"""The one of this process."""


async def beat() -> None:
    """Give one sign of life of this process."""
    pulse.beat()


async def keep_beating() -> None:
    """Give signs of life of this process until it is cancelled."""
    while True:
        pulse.beat()
        await anyio.sleep(BEAT_SECONDS)
