"""Who wrote a mail, and the mail's own name. What is not written clearly is not guessed."""

from __future__ import annotations

import re

from orchestrator.intake.fields import Fields

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"(?=.{{3,254}}\Z)(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+(?=[A-Za-z]){_LABEL}")
_MAILBOX = re.compile(r"([^<>]*)<([^<>]*)>\s*|([^<>]*)")
_MESSAGE_ID = re.compile(r"<[!-;=?A-~]+@[!-;=?A-~]+>")
"""Wider than RFC 5322 3.6.4: mail programs write parentheses, colons and more, and an answer must name the same."""
_PRETENDED = re.compile(r"[^@]@[^@]")
_FROM_LIMIT = 4000
"""How many characters of a From field are read: beyond, nobody can tell who wrote."""
_MESSAGE_ID_LIMIT = 998
"""RFC 5322 2.1.1: what fits on one line."""
_QUOTED = "\x01"
"""Stands for a quoted string: it may be a name, and is never part of an address that is accepted."""


def senders_in(fields: Fields) -> tuple[str, ...]:
    """Return every address that the From fields name, lower case."""
    return tuple(address for value in fields.all("from") for address in _addresses(value))


def sender_in(fields: Fields) -> str:
    """Return the address that wrote the mail, lower case; empty if there is not exactly one (RFC 5322 3.6.2)."""
    senders = senders_in(fields)
    return senders[0] if len(senders) == 1 and len(fields.all("from")) == 1 else ""


def message_id_in(fields: Fields) -> str:
    """Return the mail's Message-ID with its angle brackets; empty if it is none, or not one word of ASCII."""
    values = fields.all("message-id")
    value = values[0] if len(values) == 1 else ""
    return value if len(value) <= _MESSAGE_ID_LIMIT and _MESSAGE_ID.fullmatch(value) else ""


def _addresses(value: str) -> list[str]:
    """Return the addresses of an address list; several if there may be several, none if it cannot be read."""
    plain = _without_comments(value) if len(value) <= _FROM_LIMIT else ""
    found = []
    # A group (RFC 5322 3.4) writes in nobody's name.
    for item in plain.split(",") if not set(plain) & {":", ";"} else ():
        if "@" not in item and "<" not in item:
            # A name with a bare comma, "Lee, Ann <ann@example.com>", is written wrongly, but clear.
            continue
        found += _address_of(item) or [""]
    return [] if "" in found else found


def _address_of(item: str) -> list[str]:
    """Return the address of one mailbox, and those that its name pretends."""
    matched = _MAILBOX.fullmatch(item)
    if not matched:
        return []
    name, angle, bare = (part or "" for part in matched.groups())
    address = (angle or bare).strip().lower()
    others = [word for word in name.split() if _PRETENDED.search(word) and word.lower() != address]
    return [address, *others] if _ADDRESS.fullmatch(address) else []


def _without_comments(value: str) -> str:
    """Remove comments and quoted strings (RFC 5322 3.2.2, 3.2.4); empty if they do not end."""
    kept: list[str] = []
    depth = 0
    quoted = escaped = False
    for letter in value:
        if escaped:
            escaped = False
        elif letter == "\\" and (quoted or depth):
            escaped = True
        elif letter == '"' and not depth:
            quoted = not quoted
            kept.append(_QUOTED if quoted else "")
        elif not quoted and letter in "()":
            depth += 1 if letter == "(" else -1
            if depth < 0:
                return ""
        elif not quoted and not depth:
            kept.append(letter)
    return "" if quoted or depth or escaped else "".join(kept)
