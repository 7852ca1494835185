"""How much Keap still lets us ask, as each of its answers tells.

Source: developer.keap.com/api-token-quota-and-usage-measurements. The counts are of all processes and machines
that use the same credential, so that they need not know of one another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from time import monotonic

from orchestrator.errors import RateLimited

_COUNTS = ("product-throttle", "product-quota", "tenant-throttle", "tenant-quota")
"""Calls of this credential and of the whole account, in a minute and in a day."""
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_NUMBER = re.compile(r"[0-9]{1,12}")
_LONGEST = timedelta(hours=1)
"""So long one waits at most before Keap is asked again: a day's quota may be raised, or come back at midnight UTC."""


@dataclass(frozen=True)
class _Spent:
    name: str
    until: float
    """On the monotonic clock, so that neither their clock nor a jump of ours matters."""


class Quota:
    """Holds a call back when the answer before said that the next one would be refused."""

    def __init__(self) -> None:
        self._spent: _Spent | None = None
        self._lock = Lock()

    def admit(self, place: str) -> None:
        """Let a call pass.

        Raises:
            RateLimited: Keap would refuse it.
        """
        with self._lock:
            spent = self._spent
        if spent and (seconds := spent.until - monotonic()) > 0:
            message = f"{place}: not asked, because its {spent.name} is used up"
            raise RateLimited(message, retry_after=timedelta(seconds=seconds))

    def learn(self, headers: Mapping[str, str]) -> timedelta | None:
        """Read what an answer tells.

        Returns:
            How long to wait, if nothing is left.
        """
        spent = max((each for name in _COUNTS if (each := _spent(name, headers))), key=_until, default=None)
        with self._lock:
            self._spent = spent
        return timedelta(seconds=spent.until - monotonic()) if spent else None


def _until(spent: _Spent) -> float:
    return spent.until


def _spent(name: str, headers: Mapping[str, str]) -> _Spent | None:
    def number(field: str) -> int | None:
        text = headers.get(f"x-keap-{name}-{field}", "")
        return int(text) if _NUMBER.fullmatch(text) else None

    if number("available") != 0:
        return None
    unit = _UNITS.get(headers.get(f"x-keap-{name}-time-unit", "").lower(), 60)
    wait = min(timedelta(seconds=(number("interval") or 1) * unit), _LONGEST)
    return _Spent(name, monotonic() + wait.total_seconds())
