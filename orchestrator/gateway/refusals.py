"""Calls that were refused: counted, and put on the record in a bounded number of events."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from threading import Lock

from orchestrator.record.record import Record
from orchestrator.record.trail import Actor, Context, Draft


class Reason(StrEnum):
    """Why a call was refused."""

    TOO_LARGE = "size"
    TOO_SLOW = "slow"
    BUSY = "busy"
    """All slots are taken (503), or all those of this webhook (429)."""
    FORGED = "signature"
    """Also: no such webhook."""
    STALE = "time"
    CONFLICT = "conflict"
    FAILED = "failed"
    """The store failed; the sender was asked to come again."""


class Refusals:
    """Counts refused calls by webhook and reason; both are few, whatever strangers send.

    Args:
        record: Where the counts are written down.
        chain: The chain of this gateway in the audit trail.
    """

    def __init__(self, record: Record, chain: str) -> None:
        self._record = record
        self._chain = chain
        self._counts: Counter[tuple[str, Reason]] = Counter()
        self._guard = Lock()

    def add(self, hook: str, reason: Reason) -> None:
        """Count a refused call."""
        with self._guard:
            self._counts[hook, reason] += 1

    def write_down(self) -> None:
        """Put what was counted since the last time on the record, in one event; nothing if there is nothing."""
        with self._guard:
            counts, self._counts = self._counts, Counter()
        if not counts:
            return
        calls = [
            {"webhook": hook, "reason": reason, "calls": count} for (hook, reason), count in sorted(counts.items())
        ]
        draft = Draft(
            kind="calls.refused",
            context=Context(),
            data={"refused": calls},
            actor=Actor(name="gateway", auth="system"),
        )
        try:
            with self._record.store.write() as tx:
                self._record.trail.append_alone(tx, self._chain, draft, self._record.clock())
        except Exception:
            with self._guard:
                self._counts += counts
            raise
