"""A folder of an IMAP server, opened to be read, and what the server's answers say.

Mails are fetched beneath imap-tools: its own fetch parses each mail, and we need the bytes, the size first and the
server's date.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from imap_tools import BaseMailBox
from imap_tools.errors import MailboxFolderSelectError

from orchestrator.errors import AccessDenied, Unavailable
from orchestrator_connectors.mail.conversation import TEMPORARY
from orchestrator_connectors.mail.settings import ImapSettings

_WINDOW = 50_000
"""The library reads answers of at most a million characters, and a UID takes up to eleven."""
_CURSOR = re.compile(r"(\d{1,10}):(\d{1,10})")
_UID = re.compile(rb"\bUID (\d+)")
_SIZE = re.compile(rb"\bRFC822\.SIZE (\d+)")
_DATE = re.compile(rb'\bINTERNALDATE "([^"]+)"')
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_QUOTED_BODY = re.compile(rb"\bBODY\[[A-Z]*\](?:<0>)? " + _QUOTED.pattern)
_NO_SELECT = frozenset({r"\Noselect", r"\NonExistent"})
"""Names in the hierarchy that are no folders (RFC 9051 section 7.3.1)."""


@dataclass(frozen=True)
class Outline:
    """What is known of a mail before it is read."""

    uid: int
    size: int
    received_at: datetime


class Folder:
    """A folder opened with EXAMINE, so that not even a flag can change."""

    def __init__(self, box: BaseMailBox, name: str, settings: ImapSettings) -> None:
        self._box = box
        self._place = settings.place
        try:
            box.folder.set(name, readonly=True)
        except MailboxFolderSelectError as exc:
            if TEMPORARY.search(str(exc).encode()):
                raise
            setting = "imap.sent_folder" if name == settings.sent_folder else "imap.folder"
            raise AccessDenied(
                f"IMAP server {self._place} does not open the folder {name!r}: correct {setting}; {_what_there_is(box)}"
            ) from exc
        self.count = self._number("EXISTS")
        self.next_uid = self._number("UIDNEXT")
        self._validity = self._number("UIDVALIDITY")

    def cursor(self, uid: int) -> str:
        """Return the name of a mail, which is also the cursor behind it (RFC 9051 section 2.3.1.1)."""
        return f"{self._validity}:{uid}"

    def last_uid(self, cursor: str | None) -> int:
        """Return the UID of a cursor, or 0 if the server does not honour it any more."""
        parts = _CURSOR.fullmatch(cursor or "")
        return int(parts[2]) if parts and int(parts[1]) == self._validity else 0

    def uids_behind(self, last: int, limit: int) -> list[int]:
        """Return the first ``limit`` UIDs behind ``last``."""
        found: list[int] = []
        for window in windows(last + 1, self.next_uid, count=self.count):
            # "n:*" always names the last mail, even if its UID is smaller than n.
            found += sorted(uid for uid in map(int, self._box.uids(f"UID {window}", charset=None)) if uid > last)
            if len(found) >= limit:
                break
        return found[:limit]

    def outlines(self, uids: Sequence[int]) -> list[Outline]:
        """Return size and date of the mails that are still there, in order."""
        found = []
        for uid, text, _ in self._fetch(uids, "RFC822.SIZE INTERNALDATE"):
            size, date = _SIZE.search(text), _DATE.search(text)
            if size and date:
                found.append(Outline(uid, int(size[1]), _utc(date[1].decode())))
        return sorted(found, key=lambda outline: outline.uid)

    def bodies(self, uids: Sequence[int], item: str) -> dict[int, bytes]:
        """Return the bytes of the mails that are still there."""
        return {uid: body for uid, _, body in self._fetch(uids, item) if body is not None}

    def holds(self, message_id: str) -> bool:
        """Look for a Message-ID, which must hold no quotes or backslashes."""
        return bool(self._box.uids(f'HEADER Message-ID "{message_id}"', charset=None))

    def _fetch(self, uids: Sequence[int], item: str) -> Iterator[tuple[int, bytes, bytes | None]]:
        if not uids:
            return
        status, data = self._box.client.uid("FETCH", ",".join(map(str, uids)), f"(UID {item})")
        if status != "OK":
            raise Unavailable(f"IMAP server {self._place} does not show mails that it listed")
        yield from _answers(data)

    def _number(self, code: str) -> int:
        _, values = self._box.client.response(code)
        if not values or values[-1] is None:
            raise Unavailable(f"IMAP server {self._place} does not tell {code}, which every server must")
        return int(values[-1])


def where_sent_lies(box: BaseMailBox) -> str:
    """Return the folder that the server names for sent mail (RFC 6154), or nothing."""
    return next((folder.name for folder in box.folder.list() if r"\Sent" in folder.flags), "")


def _what_there_is(box: BaseMailBox) -> str:
    folders = [folder for folder in box.folder.list() if _NO_SELECT.isdisjoint(folder.flags)]
    sent = where_sent_lies(box)
    return f"there are: {', '.join(folder.name for folder in folders)}" + (f" (sent mail: {sent})" if sent else "")


def _answers(data: Sequence[object]) -> Iterator[tuple[int, bytes, bytes | None]]:
    """Put the parts of each FETCH answer together: UID, its text, and the mail if the answer holds one."""
    text, literal = b"", None
    for part in data:
        if isinstance(part, tuple):
            text, literal = text + part[0], part[1]
        elif isinstance(part, bytes):
            text += part
            if literal is None and (quoted := _QUOTED_BODY.search(text)):
                literal = re.sub(rb"\\(.)", rb"\1", quoted[1])
            if uid := _UID.search(_QUOTED.sub(b"", text)):
                yield int(uid[1]), text, literal
            text, literal = b"", None


def windows(first: int, end: int, *, count: int) -> Iterator[str]:
    """Split the UIDs from ``first`` to before ``end``, so that no answer names too many of the folder's mails."""
    if first < end and count <= _WINDOW:
        yield f"{first}:*"
    elif first < end:
        for start in range(first, end, _WINDOW):
            yield f"{start}:{min(start + _WINDOW, end) - 1}"


def _utc(date: str) -> datetime:
    moment = parsedate_to_datetime(date)
    # "-0000" means UTC by a server that does not know its own time zone.
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
