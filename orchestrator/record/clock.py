"""Time as the record writes it: UTC, microseconds, one fixed width, so that text sorts like time.

The wall clock says when something happened. How long something may still take is measured by a steady clock, which
nobody sets: leases and the deadlines of calls must not lapse because the wall clock jumps.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

Clock = Callable[[], datetime]
"""Tells the time, in UTC."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
TIME_NAMESPACE = Path("/proc/self/ns/time")
_START = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def utc_now() -> datetime:
    """Tell the time of this machine, in UTC."""
    return datetime.now(UTC)


def stamp(moment: datetime) -> str:
    """Write a moment as RFC 3339 with microseconds and ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def moment(written: str) -> datetime:
    """Read what ``stamp`` wrote."""
    return datetime.fromisoformat(written)


@dataclass(frozen=True)
class SteadyClock:
    """A clock that nobody sets, and that goes on while the machine sleeps.

    Args:
        name: Which clock it is. Readings of the same name can be compared, whichever process took them.
        read: Tells the time since some moment, in microseconds.
    """

    name: str
    read: Callable[[], int]

    def __call__(self) -> timedelta:
        """Tell the time since the moment at which this clock read zero."""
        return timedelta(microseconds=self.read())

    def after(self, span: timedelta) -> int:
        """Return what it reads when so much time has passed."""
        return self.read() + span // _MICROSECOND


def steady(clock: Clock) -> SteadyClock:
    """Return a steady clock for those who use this wall clock: one that was made for them counts as steady itself."""
    if clock is utc_now:
        return _of_this_machine()
    return SteadyClock(name="given", read=lambda: (clock() - _START) // _MICROSECOND)


@cache
def _of_this_machine() -> SteadyClock:
    """Return the clock that all processes share until the machine starts again, or one of this process alone.

    CLOCK_BOOTTIME counts suspension, and is set by nobody (clock_gettime(2)); only a time namespace shifts it
    (time_namespaces(7)). Where there is none, the clocks of different processes cannot be compared.
    """
    if hasattr(time, "CLOCK_BOOTTIME"):
        with suppress(OSError):
            namespace = TIME_NAMESPACE.readlink() if TIME_NAMESPACE.is_symlink() else ""
            name = f"{BOOT_ID.read_text().strip()}/{namespace}"
            return SteadyClock(name=name, read=lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000)
    return SteadyClock(name=secrets.token_hex(8), read=lambda: time.monotonic_ns() // 1000)
