"""A mail as it goes over the wire."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.headerregistry import Address, HeaderRegistry, MessageIDHeader
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from functools import cache
from uuid import uuid4

from orchestrator.capabilities import Notice, OutgoingMail

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_ADDRESS = re.compile(r"([A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64})@([A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)")
_MESSAGE_ID = re.compile(r"<[!-;=?A-~]{1,450}@[!-;=?A-~]{1,450}>")
_EFFECT_ID = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


class _Headers(HeaderRegistry):
    """The library's registry, which makes a new class for each header of each mail; this one makes each class once."""

    @cache  # noqa: B019 - there is one registry
    def __getitem__(self, name: str) -> type:
        return super().__getitem__(name)


_HEADERS = _Headers()
for _name in ("In-Reply-To", "References"):
    # As plain text the standard library would break a long id into encoded words, and with it the customer's thread.
    _HEADERS.map_to_type(_name, MessageIDHeader)  # type: ignore[arg-type]  # the registry adds the base class itself
_POLICY = SMTP.clone(cte_type="7bit", header_factory=_HEADERS)


def message_id(effect_id: str | None, domain: str) -> str:
    """Return the Message-ID of an effect, so that its mail can be found again; a random one for None.

    Raises:
        ValueError: The effect's id cannot stand in a Message-ID.
    """
    unique = uuid4().hex if effect_id is None else effect_id
    if not _EFFECT_ID.fullmatch(unique):
        raise ValueError("an effect id must be letters, digits, '_', '-' and single dots")
    return f"<{unique}@{domain}>"


def compose(mail: OutgoingMail, *, sender: Address, identifier: str) -> EmailMessage:
    """Render a mail to one recipient as an automatic answer (RFC 3834).

    Args:
        mail: What to send.
        sender: What stands in From.
        identifier: The Message-ID, with its angle brackets.

    Raises:
        ValueError: The recipient is not exactly one plain address.
    """
    message = EmailMessage(policy=_POLICY)
    message["Message-ID"] = identifier
    message["Date"] = format_datetime(datetime.now(UTC))
    message["From"] = sender
    message["To"] = _recipient(mail.to)
    message["Subject"] = _CONTROLS.sub(" ", mail.subject)
    answered = (mail.in_reply_to or "").strip()
    if _MESSAGE_ID.fullmatch(answered):
        message["In-Reply-To"] = message["References"] = answered
    message["Auto-Submitted"] = "auto-replied" if answered else "auto-generated"
    # Quoted-printable carries every character and every line length through every server.
    message.set_content(mail.text, cte="quoted-printable")
    if mail.html is not None:
        message.add_alternative(mail.html, subtype="html", cte="quoted-printable")
    return message


def tell(notice: Notice, *, to: str) -> OutgoingMail:
    """Write a notice as a mail."""
    text = "\n".join([notice.title, "", *notice.lines]).rstrip() + "\n"
    return OutgoingMail(to=to, subject=f"[{notice.severity}] {notice.title}", text=text)


def _recipient(text: str) -> Address:
    local, _, domain = text.strip().rpartition("@")
    address = _ADDRESS.fullmatch(f"{local}@{domain.encode('idna').decode('ascii')}")
    if not address:
        raise ValueError("the recipient is not one plain address")
    return Address(username=address[1], domain=address[2])
