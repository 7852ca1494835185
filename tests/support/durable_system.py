"""A system outside whose memory outlives the processes that call it, and one that ends them."""

from __future__ import annotations

import ctypes
import os
import resource
import sqlite3
from collections.abc import Callable
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from threading import Barrier, Event

from orchestrator.capabilities import Asset, Link, OutgoingMail, Purchase, Receipt
from orchestrator.plugins import DoubtClass, Settlement
from tests.support.shared_clock import START

REPEATABLE = (DoubtClass.PURE, DoubtClass.NATURAL, DoubtClass.NATIVE_KEY)
LETHAL = "lethal@example.com"
"""The customer whose run ends its worker."""
Boundary = Callable[[str], None]


class DurableSystem:
    """A system outside, with a memory of its own that no worker's death touches.

    Args:
        path: Its memory.
        doubt: How doubts about its effects are settled.
        boundary: Told before and after each call.
        is_blind: Whether it shows nothing of what it did.
    """

    def __init__(self, path: Path, doubt: DoubtClass, boundary: Boundary, *, is_blind: bool = False) -> None:
        self._is_blind = is_blind
        self._path = path
        self._doubt = doubt
        self._boundary = boundary
        declared = Settlement(doubt=doubt, key_lifetime=timedelta(days=1), probe=self._probe)
        self.settlements = {"link_to": Settlement(doubt=DoubtClass.PURE), "send": declared, "note": declared}

    def purchases_of(self, email: str) -> tuple[Purchase, ...]:
        """Return one purchase."""
        self._boundary("call")
        asset = Asset(key="book.pdf")
        found = Purchase(order="17", product="Book", asset=asset, email=email, bought_on=date(2026, 1, 1))
        self._boundary("acted")
        return (found,)

    def link_to(self, asset: Asset, *, valid_for: timedelta) -> Link:
        """Return a link."""
        self._boundary("call")
        return Link(asset=asset, url="https://files.test/secret", expires_at=START + valid_for)

    def send(self, mail: OutgoingMail, *, effect_id: str | None = None) -> Receipt:
        """Send a mail."""
        return self._act(str(effect_id))

    def note(self, email: str, text: str, *, effect_id: str | None = None) -> Receipt:
        """Write a note."""
        return self._act(str(effect_id))

    def applied(self, effect_id: str) -> int:
        """Return how often an effect was applied."""
        found = self._memory.execute("SELECT count(*) FROM applied WHERE effect_id = ?", (effect_id,))
        return int(found.fetchone()[0])

    @cached_property
    def _memory(self) -> sqlite3.Connection:
        memory = sqlite3.connect(self._path, isolation_level=None)
        memory.execute("PRAGMA journal_mode = WAL")
        memory.execute("PRAGMA synchronous = FULL")
        memory.execute("CREATE TABLE IF NOT EXISTS applied (effect_id TEXT)")
        return memory

    def _act(self, effect_id: str) -> Receipt:
        self._boundary("call")
        if self._doubt not in REPEATABLE or not self.applied(effect_id):
            self._memory.execute("INSERT INTO applied VALUES (?)", (effect_id,))
        self._boundary("acted")
        return Receipt(reference=f"<{effect_id}@test>")

    def _probe(self, effect_id: str, **arguments: object) -> Receipt | None:
        self._boundary("probe")
        is_seen = self.applied(effect_id) and not self._is_blind
        found = Receipt(reference=f"<{effect_id}@test>") if is_seen else None
        self._boundary("probed")
        return found


class LethalSystem(DurableSystem):
    """A system whose client ends the process that asks for one customer.

    Args:
        path: Its memory.
        by: ``segfault``, ``abort`` or ``memory``.
    """

    def __init__(self, path: Path, by: str) -> None:
        super().__init__(path, DoubtClass.PROBE, lambda kind: None)
        self._by = by
        self.beside: Barrier | None = None
        """Where all runs of the process meet if one of them is lethal."""

    def purchases_of(self, email: str) -> tuple[Purchase, ...]:
        """Return one purchase, or end the process."""
        if self.beside is not None:
            self.beside.wait()
            if email != LETHAL:
                Event().wait()
        if email == LETHAL:
            ENDS[self._by]()
        return super().purchases_of(email)


def _take_all_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, resource.RLIM_INFINITY))
    hoard = []
    while True:
        hoard.append(bytearray(1 << 24))


ENDS: dict[str, Callable[[], object]] = {
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "memory": _take_all_memory,
}
