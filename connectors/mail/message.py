"""A mail as it goes over the wire."""

from __future__ import annotations

import re
from binascii import b2a_qp
from datetime import UTC, datetime
from email.headerregistry import Address, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTP, Policy
from email.utils import format_datetime
from functools import cache
from typing import Any
from uuid import uuid4

from orchestrator.capabilities import Notice, OutgoingMail

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_ADDRESS = re.compile(r"([A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64})@([A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)")
_MESSAGE_ID = re.compile(r"<[!-;=?A-~]{1,450}@[!-;=?A-~]{1,450}>")
"""Wider than RFC 5322 section 3.6.4: mail programs write parentheses, colons and more, and a thread hangs on each."""
_EFFECT_ID = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


class _Headers(HeaderRegistry):
    """The library's registry, which makes a new class for each header of each mail; this one makes each class once."""

    @cache  # noqa: B019 - there is one registry
    def __getitem__(self, name: str) -> type:
        return super().__getitem__(name)


class _AsItIs(UnstructuredHeader):
    """A header whose value we made or checked: it is safe as it is, and shorter than a line may be.

    As plain text the standard library would break a long id into encoded words, and as a Message-ID it would cut off
    what its grammar does not know; with either goes the customer's thread. To take an address apart and put it together
    again takes longer than to send the mail.
    """

    name: str

    @classmethod
    def parse(cls, value: str, kwds: dict[str, Any]) -> None:
        """Take the value unread."""
        kwds["parse_tree"], kwds["decoded"] = None, value

    def fold(self, *, policy: Policy[Any]) -> str:
        """Write it on a line of its own, unfolded."""
        return f"{self.name}: {self}{policy.linesep}"


_HEADERS = _Headers()
for _name in ("Message-ID", "Date", "To", "In-Reply-To", "References"):
    _HEADERS.map_to_type(_name, _AsItIs)  # type: ignore[arg-type]  # the registry adds the base class itself
_POLICY = SMTP.clone(cte_type="7bit", header_factory=_HEADERS)
_BOUNDARY = "=_part"
"""Text in quoted-printable never holds "=_" (RFC 2045 6.7 advises it)."""


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
    message["From"] = _same("From", str(sender))
    message["To"] = _recipient(mail.to)
    message["Subject"] = _CONTROLS.sub(" ", mail.subject)
    answered = (mail.in_reply_to or "").strip()
    if _MESSAGE_ID.fullmatch(answered):
        message["In-Reply-To"] = message["References"] = answered
    message["Auto-Submitted"] = _same("Auto-Submitted", "auto-replied" if answered else "auto-generated")
    message["MIME-Version"] = _same("MIME-Version", "1.0")
    if mail.html is None:
        _fill(message, "plain", mail.text)
    else:
        message["Content-Type"] = _same("Content-Type", f'multipart/alternative; boundary="{_BOUNDARY}"')
        for kind, text in (("plain", mail.text), ("html", mail.html)):
            part = EmailMessage(policy=_POLICY)
            _fill(part, kind, text)
            message.attach(part)
    return message


@cache
def _same(name: str, value: str) -> Any:
    """Return a header that many mails have, parsed once: that takes as long as to hand the mail over."""
    return _HEADERS(name, value)


def _fill(part: EmailMessage, kind: str, text: str) -> None:
    """Put a text in; quoted-printable carries every character and every line length through every server."""
    part["Content-Type"] = _same("Content-Type", f'text/{kind}; charset="utf-8"')
    part["Content-Transfer-Encoding"] = _same("Content-Transfer-Encoding", "quoted-printable")
    lines = [*text.encode().splitlines(), b""]
    part.set_payload(b2a_qp(b"\n".join(lines), istext=True).decode("ascii"))


def tell(notice: Notice, *, to: str) -> OutgoingMail:
    """Write a notice as a mail."""
    text = "\n".join([notice.title, "", *notice.lines]).rstrip() + "\n"
    return OutgoingMail(to=to, subject=f"[{notice.severity}] {notice.title}", text=text)


def _recipient(text: str) -> str:
    local, _, domain = text.strip().rpartition("@")
    address = _ADDRESS.fullmatch(f"{local}@{domain.encode('idna').decode('ascii')}")
    if not address:
        raise ValueError("the recipient is not one plain address")
    return address[0]
