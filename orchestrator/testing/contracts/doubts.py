"""How a test settles a doubt about an effect, as the host does."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.plugins import DoubtClass, Settlement


def settle(settlement: Settlement, effect_id: str, again: Callable[[], object], **arguments: object) -> None:
    """Settle a doubt as the connection declared: look, or do it again; a doubt of no class is a person's."""
    if settlement.doubt is DoubtClass.NONE:
        return
    happened = settlement.probe and settlement.probe(effect_id, **arguments)
    if not happened:
        again()
