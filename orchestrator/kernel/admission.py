"""Letting an effect through, holding it for a person or leaving it out, in the transaction that plans it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from orchestrator.capabilities import Recipient
from orchestrator.errors import Rejected, RunParked


@dataclass(frozen=True, kw_only=True)
class Request:
    """An effect that a run asks for, and that reaches somebody outside of the business."""

    effect_id: str
    run_id: str
    recipient: Recipient


Admission = Callable[[Connection, Request], None]
"""Called in the transaction that plans an effect; it raises ``Held`` or ``LeftOut`` to keep it from happening."""


class LeftOut(Rejected):
    """An effect that can be spared does not happen. The process learns of it as of any other refusal."""


class Held(RunParked):
    """An effect may not happen without a person's word. Nothing of it was written.

    Args:
        reason: Why, and what a person can do.
        also: Written in the transaction that parks the run.
    """

    def __init__(self, reason: str, *, also: Callable[[Connection], None]) -> None:
        super().__init__(reason)
        self.also = also
