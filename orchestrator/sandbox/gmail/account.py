"""One Gmail account: messages with labels, threads, a history of changes, and a search."""

from __future__ import annotations

import email
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from email.utils import getaddresses
from functools import cached_property
from itertools import count
from threading import RLock
from typing import Any
from uuid import uuid4

Clock = Callable[[], float]
"""Tells the time, in seconds since 1970."""

_MESSAGE_ID = re.compile(r"<[!-;=?A-~]+@[!-;=?A-~]+>")
_ANSWER = re.compile(r"^\s*((re|fwd?|aw|wg)\s*:\s*)+", re.IGNORECASE)
_STEP = 7
"""History ids grow, and are not contiguous ("Synchronize clients with Gmail")."""
_LEFT_OUT = frozenset({"SPAM", "TRASH"})
_FIRST_ID = 0x19A0000000000001


class Refused(Exception):
    """A request that Gmail refuses.

    Args:
        status: The HTTP status.
        reason: The reason in Google's error format.
        message: Its words.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


@dataclass
class StoredMail:
    """One message as it lies in the account."""

    id: str
    thread_id: str
    raw: bytes
    labels: set[str]
    internal_date: int
    """When it was taken in, in milliseconds since 1970."""

    @cached_property
    def headers(self) -> Message:
        """Its headers, and no body."""
        return email.message_from_bytes(self.raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")

    def header(self, name: str) -> str:
        """Return one header unfolded; empty if it is not there."""
        return " ".join(str(self.headers.get(name, "")).split())

    @property
    def names(self) -> dict[str, Any]:
        """How lists of messages show it."""
        return {"id": self.id, "threadId": self.thread_id}

    @property
    def outline(self) -> dict[str, Any]:
        """What ``format=minimal`` shows, but the snippet."""
        return {
            **self.names,
            "labelIds": sorted(self.labels),
            "internalDate": str(self.internal_date),
            "sizeEstimate": len(self.raw),
        }


@dataclass
class GmailBox:
    """An account and what lies in it.

    Args:
        address: The account's address.
        refused: Addresses that are refused at once; Gmail accepts nearly all others, and bounces come later.
        clock: Tells the time.
    """

    address: str
    refused: frozenset[str] = frozenset()
    clock: Clock = time.time
    mails: dict[str, StoredMail] = field(default_factory=dict)
    history_id: int = 1000
    _records: list[dict[str, Any]] = field(default_factory=list)
    _forgotten: int = 0
    _ids: Any = field(default_factory=lambda: count(_FIRST_ID))
    _lock: RLock = field(default_factory=RLock)

    def deliver(self, raw: bytes, labels: Iterable[str] = ("INBOX", "UNREAD")) -> StoredMail:
        """Let a mail arrive."""
        with self._lock:
            return self._add(raw, set(labels), thread_id=None)

    def send(self, raw: bytes, thread_id: str | None) -> tuple[StoredMail, list[str]]:
        """Take a mail to send, and file it as sent.

        Returns:
            The mail, and who else is to get it.
        """
        recipients = self._recipients(raw)
        with self._lock:
            if thread_id is not None and not self._thread(thread_id):
                raise Refused(404, "notFound", "Requested entity was not found.")
            own = {"INBOX"} if self.address in recipients else set()
            sent = self._add(_with_message_id(raw), {"SENT"} | own, thread_id=thread_id)
        return sent, [recipient for recipient in recipients if recipient != self.address]

    def relabel(self, message_id: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
        """Let a person label, archive, or move a message."""
        with self._lock:
            mail = self.mails[message_id]
            mail.labels = (mail.labels | set(add)) - set(remove)
            for kind, labels in (("labelsAdded", add), ("labelsRemoved", remove)):
                if changed := sorted(labels):
                    self._note({kind: [{"message": mail.names, "labelIds": changed}]})

    def delete(self, message_id: str) -> None:
        """Let a person delete a message for good."""
        with self._lock:
            self._note({"messagesDeleted": [{"message": self.mails.pop(message_id).names}]})

    def forget_history(self) -> None:
        """Forget all changes so far, as Gmail does after a week or sooner."""
        with self._lock:
            self._records.clear()
            self.history_id += _STEP
            self._forgotten = self.history_id

    def restore(self) -> None:
        """Come back from a backup: the mails stay, with other ids, and the history is lost."""
        with self._lock:
            for mail in list(self.mails.values()):
                del self.mails[mail.id]
                mail.id = mail.thread_id = self._next_id()
                self.mails[mail.id] = mail
            self.forget_history()

    def found(self, query: str, labels: Iterable[str] = (), *, with_spam_and_trash: bool = False) -> list[StoredMail]:
        """Search; the newest come first."""
        terms = [_term(word) for word in query.split()]
        everywhere = with_spam_and_trash or "in:anywhere" in query.split()
        with self._lock:
            mails = [
                mail
                for mail in self.mails.values()
                if set(labels) <= mail.labels and (everywhere or not _LEFT_OUT & mail.labels)
            ]
        return sorted((m for m in mails if all(fits(m) for fits in terms)), key=_age, reverse=True)

    def changes(self, start: int, kinds: Iterable[str]) -> list[dict[str, Any]]:
        """Return what happened behind a history id, oldest first."""
        with self._lock:
            if not self._forgotten <= start <= self.history_id:
                raise Refused(404, "notFound", "Requested entity was not found.")
            wanted = {"id", "messages", *(_RECORD_FIELDS[kind] for kind in kinds)}
            shown = [
                {k: v for k, v in each.items() if k in wanted} for each in self._records if int(each["id"]) > start
            ]
            return [record for record in shown if len(record) > len(("id", "messages"))]

    def note_together(self, *message_ids: str) -> None:
        """Put the arrival of several messages into one record of the history, as Gmail may do."""
        with self._lock:
            added = [each for r in self._records for each in r.get("messagesAdded", ()) if _id_of(each) in message_ids]
            self._records = [r for r in self._records if not any(a in added for a in r.get("messagesAdded", ()))]
            self._note({"messagesAdded": added})

    def _add(self, raw: bytes, labels: set[str], *, thread_id: str | None) -> StoredMail:
        mail = StoredMail(self._next_id(), "", raw, labels, int(self.clock() * 1000))
        mail.thread_id = self._threaded(mail, thread_id)
        self.mails[mail.id] = mail
        self._note({"messagesAdded": [{"message": {**mail.names, "labelIds": sorted(labels)}}]})
        return mail

    def _threaded(self, mail: StoredMail, wanted: str | None) -> str:
        """Find the thread: what it answers must lie there, and the subject must match ("Managing threads")."""
        answered = set(_MESSAGE_ID.findall(mail.header("References") + mail.header("In-Reply-To")))
        for other in self.mails.values() if answered else ():
            same = _subject(other) == _subject(mail) and other.header("Message-ID") in answered
            if same and wanted in {None, other.thread_id}:
                return other.thread_id
        return mail.id

    def _thread(self, thread_id: str) -> list[StoredMail]:
        return [mail for mail in self.mails.values() if mail.thread_id == thread_id]

    def _recipients(self, raw: bytes) -> list[str]:
        headers = email.message_from_bytes(raw)
        named = getaddresses([str(v) for name in ("To", "Cc", "Bcc") for v in headers.get_all(name, [])])
        recipients = [address.lower() for _, address in named if "@" in address]
        if not recipients:
            raise Refused(400, "invalidArgument", "Recipient address required")
        if self.refused.intersection(recipients):
            raise Refused(400, "invalidArgument", "Invalid To header")
        return recipients

    def _note(self, change: Mapping[str, Any]) -> None:
        self.history_id += _STEP
        messages = [{k: each["message"][k] for k in ("id", "threadId")} for each in next(iter(change.values()))]
        self._records.append({"id": str(self.history_id), "messages": messages, **change})

    def _next_id(self) -> str:
        return f"{next(self._ids):x}"


_RECORD_FIELDS = {
    "messageAdded": "messagesAdded",
    "messageDeleted": "messagesDeleted",
    "labelAdded": "labelsAdded",
    "labelRemoved": "labelsRemoved",
}


def _term(word: str) -> Callable[[StoredMail], bool]:
    """Read one word of a search (support.google.com/mail/answer/7190)."""
    operator, _, value = word.partition(":")
    match operator, value:
        case "rfc822msgid", value if value:
            return lambda mail: mail.header("Message-ID").strip("<>") == value.strip("<>")
        case "in", "anywhere":
            return lambda _mail: True
        case "in", ("inbox" | "sent" | "spam" | "trash"):
            return lambda mail: value.upper() in mail.labels
        case "after", seconds if seconds.isdecimal():
            return lambda mail: mail.internal_date >= int(seconds) * 1000
        case _:
            raise Refused(400, "invalidArgument", f"this stand-in cannot search for {operator!r}")


def _with_message_id(raw: bytes) -> bytes:
    """Give a mail a Message-ID of Google's, unless it has a well-formed one."""
    headers = email.message_from_bytes(raw)
    own = str(headers.get("Message-ID", "")).strip()
    if _MESSAGE_ID.fullmatch(own):
        return raw
    added = f"Message-ID: <{uuid4().hex}@mail.gmail.com>\r\n"
    if own:
        added += f"X-Google-Original-Message-ID: {own}\r\n"
    return added.encode() + re.sub(rb"(?im)^message-id:.*\r\n", b"", raw, count=1)


def _subject(mail: StoredMail) -> str:
    return _ANSWER.sub("", mail.header("Subject")).casefold()


def _age(mail: StoredMail) -> tuple[int, str]:
    return mail.internal_date, mail.id


def _id_of(change: Mapping[str, Any]) -> str:
    return str(change["message"]["id"])
