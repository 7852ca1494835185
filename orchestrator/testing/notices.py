"""A stand-in for the system that reaches the people who run the business."""

from __future__ import annotations

from typing import ClassVar

from orchestrator.capabilities import Notice, Receipt
from orchestrator.plugins import DoubtClass, Settlement
from orchestrator.testing.fault_script import Scripted


class FakeNotifier(Scripted):
    """Keeps notices in the order they came; the same effect is told once."""

    settlements: ClassVar = {"notify": Settlement(doubt=DoubtClass.NATURAL)}

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, Notice] = {}

    @property
    def told(self) -> list[Notice]:
        """What was told."""
        return list(self._told.values())

    def notify(self, notice: Notice, *, effect_id: str | None = None) -> Receipt:
        """Tell once for each effect."""
        key = effect_id or f"notice-{len(self._told)}"
        with self._call("notify", notice=notice):
            self._told.setdefault(key, notice)
            return Receipt(reference=key)

    def check(self) -> str:
        """Count the notices."""
        return f"a fake with {len(self._told)} notices"
