"""A system outside that may act, refuse, stay silent or act late, and the truth about what it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum

from orchestrator.capabilities import OutgoingMail, Receipt
from orchestrator.errors import AccessDenied, RateLimited, Rejected, Unavailable
from orchestrator.plugins import DoubtClass, Settlement

TIMEOUT = timedelta(seconds=60)
SETTLE = timedelta(seconds=90)
KEY_LIFETIME = timedelta(hours=24)


class Outcome(StrEnum):
    """What becomes of a call."""

    DONE = "done"
    REFUSED_NOW = "refused-now"
    RATE_LIMITED = "rate-limited"
    ACCESS_DENIED = "access-denied"
    REJECTED = "rejected"
    LOST_AFTER = "lost-after"
    LOST_BEFORE = "lost-before"
    LATE = "late"


class FickleProvider:
    """Sends mail, or does not; for the worker that calls it.

    Args:
        doubt: What it declares about its effect.
        now: Tells the time.
    """

    def __init__(self, doubt: DoubtClass, now: Callable[[], datetime]) -> None:
        self.doubt = doubt
        self.applied: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.rejected: set[str] = set()
        self.outcome = Outcome.DONE
        """What becomes of the next call."""
        self.lag = timedelta(0)
        """How late it acts if it acts late, as a part of what it declares."""
        self.probe_down = False
        self.is_blind = False
        """Whether it shows nothing of what was sent."""
        self._now = now
        self._keys: dict[str, datetime] = {}
        self._late: list[tuple[datetime, str]] = []

    def settlement(self) -> Settlement:
        """Declare how a doubt is settled."""
        return Settlement(
            doubt=self.doubt, timeout=TIMEOUT, visibility_delay=SETTLE, key_lifetime=KEY_LIFETIME, probe=self.probe
        )

    def land(self) -> None:
        """Let what was to come late come, if it is time."""
        due = sorted(each for each in self._late if each[0] <= self._now())
        self._late = [each for each in self._late if each[0] > self._now()]
        for at, effect_id in due:
            self._apply(effect_id, at)

    def is_open(self, effect_id: str) -> bool:
        """Whether an earlier call may still be acted on."""
        return any(effect_id == late for _, late in self._late)

    def send(self, effect_id: str, boundary: Callable[[str], None]) -> Receipt:
        """Take a call; its client gives up after ``TIMEOUT`` in all, wherever the call is then."""
        began = self._now()
        self.calls[effect_id] += 1
        boundary("call")
        self._give_up_after(began)
        self._answer(effect_id, began)
        boundary("acted")
        self._give_up_after(began)
        if self.outcome is Outcome.LOST_AFTER:
            raise Unavailable("the connection was lost")
        return Receipt(reference=f"<{effect_id}>")

    def probe(self, effect_id: str, mail: OutgoingMail) -> Receipt | None:
        """Look whether the mail was sent."""
        assert mail.to
        if self.probe_down:
            raise Unavailable("it cannot be looked up now")
        return Receipt(reference=f"<{effect_id}>") if self.applied[effect_id] and not self.is_blind else None

    def _answer(self, effect_id: str, began: datetime) -> None:
        """Act, or raise what becomes of the call."""
        match self.outcome:
            case Outcome.REFUSED_NOW:
                raise Unavailable("cannot connect", no_effect=True)
            case Outcome.RATE_LIMITED:
                raise RateLimited("slow down", retry_after=KEY_LIFETIME * 2 * (self.lag / SETTLE))
            case Outcome.ACCESS_DENIED:
                raise AccessDenied("the password is wrong")
            case Outcome.REJECTED if self._may_reject(effect_id):
                self.rejected.add(effect_id)
                raise Rejected("no such recipient")
            case Outcome.LOST_BEFORE:
                raise Unavailable("the connection was lost")
            case Outcome.LATE:
                if effect_id not in self.rejected:
                    self._late.append((began + TIMEOUT + self.lag, effect_id))
                raise Unavailable("no answer in time")
        if effect_id in self.rejected:
            raise Rejected("no such recipient")
        self._apply(effect_id, self._now())

    def _may_reject(self, effect_id: str) -> bool:
        """A system that acted, or is about to, does not say that it refuses."""
        return not self.applied[effect_id] and not self.is_open(effect_id)

    def _apply(self, effect_id: str, at: datetime) -> None:
        known = self._keys.get(effect_id)
        if self.doubt is DoubtClass.NATURAL and self.applied[effect_id]:
            return
        if self.doubt is DoubtClass.NATIVE_KEY and known is not None and at < known + KEY_LIFETIME:
            return
        self._keys[effect_id] = at
        self.applied[effect_id] += 1

    def _give_up_after(self, began: datetime) -> None:
        if self._now() >= began + TIMEOUT:
            raise Unavailable("no answer in time")
