"""Incoming mail that was stored. The host answers this itself, from its own database."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from orchestrator.capabilities.values import Private, Receipt, Value, effect, query


class IncomingMail(Value):
    """A stored mail, read as far as it can be read safely."""

    delivery: str
    sender: Private[str]
    """The address of the From field, lower case; empty if there is none that can be read."""
    subject: Private[str]
    text: Private[str]
    """What the writer wrote, as plain text, without the quoted mail."""
    message_id: Private[str]
    received_at: datetime
    automatic: str = ""
    """Why no machine may answer it (RFC 3834), for example ``auto-submitted``; empty if a person wrote it."""
    unreadable: str = ""
    """Why it could not be read in full, for example ``unknown charset``; empty if it could."""


class Inbox(Protocol):
    """Incoming mail, stored before anything else happened."""

    @query
    def read(self, delivery: str) -> IncomingMail:
        """Read the customer's mail.

        Raises:
            NotFound: No such delivery.
        """
        ...

    @effect
    def settle(self, delivery: str, *, note: str) -> Receipt:
        """File the mail as dealt with.

        Args:
            delivery: The mail.
            note: Why nothing more is to be done, without personal data.
        """
        ...

    @effect
    def keep_for_person(self, delivery: str, *, reason: str) -> Receipt:
        """Leave the mail to a person.

        Args:
            delivery: The mail.
            reason: Why a person must look, without personal data.
        """
        ...
