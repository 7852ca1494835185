"""Mail out and mail in."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from orchestrator.capabilities.values import Private, Receipt, Recipient, Rendered, Value, effect, query


class OutgoingMail(Value):
    """One mail to one person, rendered to the last character."""

    to: Private[str]
    subject: Private[Rendered[str]]
    text: Private[Rendered[str]]
    html: Private[Rendered[str | None]] = None
    in_reply_to: Private[str | None] = None
    """The Message-ID that this mail answers, with its angle brackets."""
    acknowledges: Rendered[bool] = False
    """Whether it only says that a mail came in. It answers no case, and where the limits of automatic mail leave no
    room it is not held for a person, but left out: ``send`` raises ``Rejected``."""


class Mailer(Protocol):
    """The system that sends mail."""

    @effect(reaches=lambda mail: Recipient(mail.to, acknowledges=mail.acknowledges))
    def send(self, mail: OutgoingMail) -> Receipt:
        """Send the mail.

        Args:
            mail: What to send.

        Returns:
            A receipt whose reference is the Message-ID, with its angle brackets.

        Raises:
            Rejected: The server refuses the recipient or the content for good.
        """
        ...


class RawMail(Value):
    """One mail as it lies in the mailbox, byte for byte."""

    key: str
    """Names this mail in its mailbox, and no other mail ever (IMAP: UIDVALIDITY and UID, RFC 9051 2.3.1.1)."""
    raw: Private[bytes]
    received_at: datetime
    """When the server took it in (UTC), not what the sender claims."""
    truncated: bool = False
    """True if the mail is larger than the mailbox's limit: then ``raw`` holds its headers alone."""


class MailPage(Value):
    """Mails in the order of their arrival, and where the next page begins."""

    mails: tuple[RawMail, ...]
    cursor: str


class Mailbox(Protocol):
    """The system that takes in mail. Reading changes nothing in it, not even a flag."""

    @query
    def position(self) -> str:
        """Find where new mail begins.

        Returns:
            A cursor behind everything that lies in the mailbox now.
        """
        ...

    @query
    def new_mail(self, cursor: str | None, *, limit: int) -> MailPage:
        """Read new mail.

        Args:
            cursor: Where the last page ended; None for the beginning of the mailbox.
            limit: At most so many mails.

        Returns:
            The mails behind the cursor. A cursor that the server no longer honours (IMAP: UIDVALIDITY
            changed) starts again at the beginning: nothing is lost, and mail already taken in is known by its bytes.
        """
        ...
