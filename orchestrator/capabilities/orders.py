"""Who bought what."""

from __future__ import annotations

from datetime import date
from typing import Protocol

from orchestrator.capabilities.files import Asset
from orchestrator.capabilities.values import Private, Value, query


class Purchase(Value):
    """One product on one order."""

    order: Private[str]
    product: str
    asset: Asset
    email: Private[str]
    """The address on the order: the only one that a link may be sent to."""
    name: Private[str] = ""
    bought_on: date
    refunded: bool = False


class OrderRecords(Protocol):
    """The system that knows what customers bought."""

    @query
    def purchases_of(self, email: Private[str]) -> tuple[Purchase, ...]:
        """Look up what the customer bought.

        Args:
            email: The customer's address; matched without regard to case.

        Returns:
            All purchases of that address, newest first, refunded ones included; empty if none.
        """
        ...
