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


def finds(settlement: Settlement, effect_id: str, **arguments: object) -> bool:
    """Tell whether a probe finds what was done, asked as the host asks it; where there is no probe, nobody is asked.

    The host believes a probe that finds nothing only once it has found an effect that the system confirmed.
    """
    if settlement.doubt is not DoubtClass.PROBE or settlement.probe is None:
        return True
    return settlement.probe(effect_id, **arguments) is not None
