"""A wall clock and a steady one that several processes share."""

from __future__ import annotations

import mmap
from datetime import UTC, datetime, timedelta

START = datetime(2026, 3, 1, tzinfo=UTC)


class SharedClock:
    """Two clocks that driver and workers share; they go on only when the driver says so, and only one can be set."""

    def __init__(self) -> None:
        self._seconds = mmap.mmap(-1, 16)

    def __call__(self) -> datetime:
        """Tell what the wall clock reads."""
        return START + timedelta(seconds=self._get(0) + self._get(8))

    def steady(self) -> int:
        """Tell what the steady clock reads, in microseconds."""
        return self._get(0) * 1_000_000

    def advance(self, by: timedelta) -> None:
        """Go on."""
        self._set(0, self._get(0) + int(by.total_seconds()))

    def jump(self, seconds: int) -> None:
        """Set the wall clock: ahead, or back."""
        self._set(8, self._get(8) + seconds)

    def _get(self, at: int) -> int:
        return int.from_bytes(self._seconds[at : at + 8], "big", signed=True)

    def _set(self, at: int, seconds: int) -> None:
        self._seconds[at : at + 8] = seconds.to_bytes(8, "big", signed=True)
