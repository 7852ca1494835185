"""Reading a stored mail as far as it can be read safely. Any bytes give a value; none give an exception."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from orchestrator.capabilities import IncomingMail
from orchestrator.intake.addresses import message_id_in, sender_in
from orchestrator.intake.automatic import why_automatic
from orchestrator.intake.characters import clean_text
from orchestrator.intake.fields import HEADER_LIMIT, Fields, decode_words, header_end
from orchestrator.intake.parts import MailParts
from orchestrator.intake.quoting import new_text


@dataclass(frozen=True, kw_only=True)
class MailHead:
    """Who wrote a mail, and what about."""

    sender: str
    subject: str


UNPARSEABLE = "it breaks the reader"
"""A mail that shows a defect of this module; it goes to a person like any other that cannot be read."""


def read_mail(
    raw: bytes,
    *,
    delivery: str,
    received_at: datetime,
    truncated: bool = False,
    own_addresses: frozenset[str] = frozenset(),
    own_message_id_domains: frozenset[str] = frozenset(),
) -> IncomingMail:
    """Read a mail.

    Args:
        raw: The mail, byte for byte.
        delivery: What it is stored under.
        received_at: When the server took it in (UTC).
        truncated: Whether ``raw`` holds the headers alone, because the mail is too large.
        own_addresses: Where we send from, and take mail in; lower case.
        own_message_id_domains: What follows the ``@`` in the Message-ID of our own mails; lower case.

    Returns:
        The mail. What is ambiguous or broken is empty: sender and Message-ID are given only if they are certain.
        ``unreadable`` names the first thing that was lost.
    """
    try:
        parts = MailParts(raw)
        # A header that is cut may hide that a robot wrote the mail, or somebody else.
        sender = sender_in(parts.whole.fields) if not parts.problems else ""
        text = "" if truncated else new_text(clean_text(parts.text()))
        subject, problem = decode_words(parts.whole.fields.first("subject"))
        known = {
            "sender": sender,
            "subject": subject,
            "text": text,
            "message_id": message_id_in(parts.whole.fields),
            "automatic": why_automatic(
                parts.whole, own_addresses=own_addresses, own_message_id_domains=own_message_id_domains
            ),
            "unreadable": "larger than the mailbox's limit" if truncated else _first(parts, problem),
        }
    except Exception:  # noqa: BLE001 - a mail must never stop the intake, whatever is wrong with it or with this module
        known = {"sender": "", "subject": "", "text": "", "message_id": "", "unreadable": UNPARSEABLE}
    return IncomingMail(delivery=delivery, received_at=received_at, **known)


def read_head(raw: bytes) -> MailHead:
    """Read sender and subject from a mail's header alone; what is not certain is empty."""
    try:
        fields = _header(raw)
        return MailHead(sender=sender_in(fields), subject=decode_words(fields.first("subject"))[0])
    except Exception:  # noqa: BLE001 - as above
        return MailHead(sender="", subject="")


def sender_of(raw: bytes) -> str:
    """Return the address that wrote the mail, lower case, from its header alone; empty if it is not certain."""
    try:
        return sender_in(_header(raw))
    except Exception:  # noqa: BLE001 - as above
        return ""


def _header(raw: bytes) -> Fields:
    head, _ = header_end(raw, 0, min(len(raw), HEADER_LIMIT))
    return Fields(raw[:head])


def _first(parts: MailParts, problem_of_subject: str) -> str:
    if not parts.whole.fields:
        return "no mail"
    return next(iter([*parts.problems, *filter(None, [problem_of_subject])]), "")
