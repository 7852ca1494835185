"""What the business notes down about a customer."""

from __future__ import annotations

from typing import Protocol

from orchestrator.capabilities.values import Private, Receipt, effect


class Contacts(Protocol):
    """The system that keeps customers' contact cards."""

    @effect
    def tag(self, email: Private[str], tag: str) -> Receipt:
        """Tag the customer.

        Raises:
            NotFound: No contact has that address.
        """
        ...

    @effect
    def note(self, email: Private[str], text: Private[str]) -> Receipt:
        """Note what happened on the customer's card.

        Raises:
            NotFound: No contact has that address.
        """
        ...
