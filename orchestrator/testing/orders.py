"""A stand-in for the system that knows what customers bought."""

from __future__ import annotations

from orchestrator.capabilities import Purchase
from orchestrator.testing.fault_script import Scripted


class FakeOrders(Scripted):
    """Purchases, found by the address on the order."""

    def __init__(self, *purchases: Purchase) -> None:
        super().__init__()
        self.purchases = list(purchases)

    def purchases_of(self, email: str) -> tuple[Purchase, ...]:
        """Look up what the customer bought, newest first."""
        with self._call("purchases_of", email=email):
            found = [each for each in self.purchases if each.email.casefold() == email.casefold()]
            return tuple(sorted(found, key=lambda purchase: purchase.bought_on, reverse=True))

    def check(self) -> str:
        """Count the purchases."""
        return f"a fake with {len(self.purchases)} purchases"
