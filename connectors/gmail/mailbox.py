"""Mail in: by Gmail's history of changes, and by a full sync where that has been forgotten.

A cursor is ``history:since:after`` or, while a full sync goes on, ``sync:...``. ``history`` is a history id, behind
which is what has not been read. ``since`` is the time, in seconds since 1970, from which a full sync reads if Gmail has
forgotten that id (it keeps a week, often less: "Synchronize clients with Gmail"). ``after`` is the last message
read of what follows. Messages read twice after a full sync are known by their key, which is the message's id.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.capabilities import MailPage, RawMail
from orchestrator.errors import Rejected

if TYPE_CHECKING:
    from orchestrator_connectors.gmail.client import Conversation

_PAGE = 50
_OVERLAP_SECONDS = 24 * 60 * 60
"""A full sync begins so much earlier: mail is not listed strictly in the order of its arrival."""
_HEADER_BYTES = 256 * 1024
_CURSOR = re.compile(r"(sync:)?([0-9]{1,20}):([0-9]{1,10}):([0-9a-f]{0,32})")
_NOT_INCOMING = frozenset({"SPAM", "TRASH", "DRAFT", "CHAT"})
_SHARE_OF_TIME = 0.5
"""A page that takes longer is given back as it is, so that a slow line delays mail and does not stop it."""


@dataclass(frozen=True)
class Cursor:
    """A place in the mailbox."""

    history: int
    since: int
    after: str = ""
    syncing: bool = False

    @classmethod
    def read(cls, text: str | None) -> Cursor | None:
        """Read a cursor; None if it is none of ours."""
        parts = _CURSOR.fullmatch(text or "")
        return parts and cls(int(parts[2]), int(parts[3]), parts[4], syncing=bool(parts[1]))

    def __str__(self) -> str:
        return f"{'sync:' if self.syncing else ''}{self.history}:{self.since}:{self.after}"


class _Candidate(NamedTuple):
    """A message that may be new, and the cursor behind it."""

    key: str
    cursor: Cursor


class _Page(NamedTuple):
    """What may be new, and the cursor behind all of it."""

    candidates: Iterable[_Candidate]
    end: Cursor


class GmailMailbox:
    """One account's mailbox.

    Args:
        max_size_bytes: Of a larger mail only the headers are read; a page does not hold much more.
        timeout_seconds: The total time that a page has.
    """

    def __init__(self, *, max_size_bytes: int, timeout_seconds: float) -> None:
        self._max_size_bytes = max_size_bytes
        self._page_seconds = timeout_seconds * _SHARE_OF_TIME
        self._listed: tuple[Cursor, Sequence[str]] | None = None

    def position(self, gmail: Conversation) -> str:
        """Return the cursor behind everything."""
        return str(Cursor(int(gmail.profile()["historyId"]), since=int(time.time())))

    def page(self, gmail: Conversation, text: str | None, limit: int) -> MailPage:
        """Read at most ``limit`` (and 50) mails behind a cursor."""
        if limit < 1:
            raise Rejected("limit must be at least 1")
        cursor = Cursor.read(text) or Cursor(0, since=0, syncing=True)
        page = self._synced(gmail, cursor) if cursor.syncing else self._followed(gmail, cursor)
        return self._read(gmail, page, min(limit, _PAGE))

    def _followed(self, gmail: Conversation, cursor: Cursor) -> _Page:
        """Follow the history; what it says is read page by page, and the cursor moves record by record."""
        self._listed = None
        first = gmail.history(cursor.history, None)
        if first is None:
            since = max(cursor.since - _OVERLAP_SECONDS, 0)
            return self._synced(gmail, Cursor(0, since=since, syncing=True))
        # That of the first page: what arrives while the others are read may be missing there.
        end = replace(cursor, history=int(first["historyId"]), after="")
        return _Page(_changes(_records(gmail, cursor, first), cursor), end)

    def _synced(self, gmail: Conversation, cursor: Cursor) -> _Page:
        """Read everything since a time, the oldest first; what arrives meanwhile comes by the history."""
        if cursor.history == 0:
            cursor = replace(cursor, history=int(gmail.profile()["historyId"]), after="")
        keys = self._keys(gmail, cursor)
        begin = keys.index(cursor.after) + 1 if cursor.after in keys else 0
        end = replace(cursor, after="", syncing=False)
        places = [*(replace(cursor, after=key) for key in keys[begin:-1]), end]
        return _Page(map(_Candidate, keys[begin:], places), end)

    def _keys(self, gmail: Conversation, cursor: Cursor) -> Sequence[str]:
        """List the messages of a full sync, once for all its pages if this process reads them all."""
        sync = replace(cursor, after="")
        if self._listed is not None and self._listed[0] == sync and cursor.after in self._listed[1]:
            return self._listed[1]
        keys = list(gmail.messages(f"after:{cursor.since}" if cursor.since else ""))
        keys.reverse()
        self._listed = (sync, keys)
        return keys

    def _read(self, gmail: Conversation, page: _Page, limit: int) -> MailPage:
        """Read mails until the page is full, in number, bytes or time; but always one, so that reading goes on."""
        until = time.monotonic() + self._page_seconds
        mails: list[RawMail] = []
        size, place = 0, page.end
        for key, behind in page.candidates:
            outline = gmail.outline(key)
            if outline is not None and is_incoming(outline.get("labelIds", ())):
                size += min(int(outline["sizeEstimate"]), self._max_size_bytes)
                if mails and (size > self._max_size_bytes or time.monotonic() > until):
                    return _page(mails, place)
                mails += self._mail(gmail, key, outline)
            place = behind
            if len(mails) == limit:
                return _page(mails, place)
        return _page(mails, page.end)

    def _mail(self, gmail: Conversation, key: str, outline: Mapping[str, Any]) -> list[RawMail]:
        """Read one mail, unless it was deleted in this moment."""
        truncated = int(outline["sizeEstimate"]) > self._max_size_bytes
        raw = _written(gmail.headers(key)) if truncated else gmail.raw(key)
        if raw is None:
            return []
        # Whole seconds, as Gmail's IMAP says them: so mail that was taken in that way is known again.
        received_at = datetime.fromtimestamp(int(outline["internalDate"]) // 1000, UTC)
        return [RawMail(key=key, raw=raw, received_at=received_at, truncated=truncated)]


def is_incoming(labels: Iterable[str]) -> bool:
    """Tell mail that came in from what was written here; whether somebody archived it does not matter."""
    found = set(labels)
    return not found & _NOT_INCOMING and ("INBOX" in found or "SENT" not in found)


def _records(gmail: Conversation, cursor: Cursor, first: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    page: Mapping[str, Any] | None = first
    while page is not None:
        yield from page.get("history", ())
        token = page.get("nextPageToken")
        page = gmail.history(cursor.history, token) if token else None


def _changes(records: Iterable[Mapping[str, Any]], cursor: Cursor) -> Iterator[_Candidate]:
    """Find the messages that came in, or that somebody moved back into the inbox, each once."""
    seen: set[str] = set()
    before = cursor.history
    for place, record in enumerate(records):
        keys = list(dict.fromkeys(_arrived(record)))
        if place == 0 and cursor.after in keys:
            keys = keys[keys.index(cursor.after) + 1 :]
        for number, key in enumerate(keys, start=1):
            whole = number == len(keys)
            behind = replace(cursor, history=int(record["id"]) if whole else before, after="" if whole else key)
            if key not in seen:
                yield _Candidate(key, behind)
            seen.add(key)
        before = int(record["id"])


def _arrived(record: Mapping[str, Any]) -> Iterator[str]:
    for added in record.get("messagesAdded", ()):
        if is_incoming(added["message"].get("labelIds", ())):
            yield added["message"]["id"]
    for labelled in record.get("labelsAdded", ()):
        if "INBOX" in labelled.get("labelIds", ()):
            yield labelled["message"]["id"]


def _page(mails: Sequence[RawMail], cursor: Cursor) -> MailPage:
    if not cursor.syncing:
        newest = max((int(mail.received_at.timestamp()) for mail in mails), default=0)
        cursor = replace(cursor, since=max(cursor.since, newest))
    return MailPage(mails=tuple(mails), cursor=str(cursor))


def _written(headers: Sequence[tuple[str, str]] | None) -> bytes | None:
    if headers is None:
        return None
    lines = [f"{name}: {' '.join(value.splitlines())}\r\n".encode(errors="replace") for name, value in headers]
    return b"".join(lines)[:_HEADER_BYTES] + b"\r\n"
