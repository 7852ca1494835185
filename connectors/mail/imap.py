"""Mail in by IMAP, and the look into what was sent.

The conversation is imap-tools' (logins, folder names, searches); the folder is opened to be read only.
"""

from __future__ import annotations

import imaplib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from imap_tools import ImapToolsError

from orchestrator.capabilities import MailPage, RawMail
from orchestrator.errors import Rejected
from orchestrator_connectors.mail.conversation import Conversation, conversation, translated
from orchestrator_connectors.mail.deadline import Deadline
from orchestrator_connectors.mail.folder import Folder, Outline, where_sent_lies
from orchestrator_connectors.mail.oauth import MailTokens
from orchestrator_connectors.mail.settings import ImapSettings, MailSettings
from orchestrator_connectors.mail.wire import Wire

_PAGE = 100
"""Servers refuse command lines of more than some 8000 characters (RFC 7162 section 4)."""
_HEADER_BYTES = 256 * 1024


class ImapMailbox:
    """One account's mailbox; it is only ever opened to be read.

    Args:
        settings: The server and the folders.
        account: The limits: one operation's total time, and the size of a mail, which is also that of a page.
        tokens: What logins are proven with, if not with a password.
    """

    def __init__(self, settings: ImapSettings, *, account: MailSettings, tokens: MailTokens | None = None) -> None:
        self._settings = settings
        self._tokens = tokens
        self._timeout_seconds = account.timeout_seconds
        self._max_size_bytes = account.max_size_bytes
        self._wire = Wire(settings)

    def position(self) -> str:
        """Return the cursor behind the last mail."""
        with self._opened(self._settings.folder) as folder:
            return position(folder)

    def new_mail(self, cursor: str | None, *, limit: int) -> MailPage:
        """Read at most ``limit`` (and 100) mails behind the cursor."""
        with self._opened(self._settings.folder) as folder:
            return read_page(folder, cursor, limit=limit, max_size_bytes=self._max_size_bytes)

    def holds(self, message_id: str, *, folder: str) -> bool:
        """Look whether a mail with this Message-ID lies in the folder."""
        with self._opened(folder) as opened:
            return opened.holds(message_id)

    def check(self) -> str:
        """Log in and open the folders."""
        with self._conversation() as box:
            folder = self._folder(box, self._settings.folder)
            told = "" if box.client.can_idle else " and does not tell of new mail (it has no IDLE: poll_seconds counts)"
            seen = f"IMAP server {self._wire.server.place} holds {folder.count} mails in {self._settings.folder}{told}"
            return f"{seen}, and {self._seen_of_sent_mail(box)}"

    def _seen_of_sent_mail(self, box: Conversation) -> str:
        if self._settings.sent_folder is not None:
            self._folder(box, self._settings.sent_folder)
            return f"sent mail is looked up in {self._settings.sent_folder}"
        named = where_sent_lies(box)
        hint = f"; the server names {named!r}: set it if the provider itself files there what it sends" if named else ""
        return f"sent mail cannot be looked up (imap.sent_folder is not set{hint}): a person settles doubts"

    @contextmanager
    def _opened(self, name: str) -> Iterator[Folder]:
        with self._conversation() as box:
            yield self._folder(box, name)

    @contextmanager
    def _conversation(self) -> Iterator[Conversation]:
        with (
            within_time(self._wire, self._timeout_seconds) as deadline,
            conversation(self._settings, self._wire, deadline, self._tokens) as box,
        ):
            yield box

    def _folder(self, box: Conversation, name: str) -> Folder:
        return Folder(box, name, self._settings)


@contextmanager
def within_time(wire: Wire, seconds: float) -> Iterator[Deadline]:
    """Have a conversation, or a part of one, within so many seconds; what goes wrong comes out in our words."""
    deadline = Deadline(seconds)
    try:
        with deadline:
            yield deadline
    except (imaplib.IMAP4.error, ImapToolsError, OSError, ValueError) as exc:
        raise translated(exc, place=wire.server.place, late=deadline.passed) from exc


def position(folder: Folder) -> str:
    """Return the cursor behind the last mail."""
    return folder.cursor(folder.next_uid - 1)


def read_page(folder: Folder, cursor: str | None, *, limit: int, max_size_bytes: int) -> MailPage:
    """Read at most ``limit`` (and 100) mails behind the cursor.

    Raises:
        Rejected: The limit is none.
    """
    if limit < 1:
        raise Rejected("limit must be at least 1")
    last = folder.last_uid(cursor)
    outlines = _one_page(folder.outlines(folder.uids_behind(last, min(limit, _PAGE))), max_size_bytes)
    mails = _read(folder, outlines, max_size_bytes)
    return MailPage(mails=mails, cursor=folder.cursor(outlines[-1].uid if outlines else last))


def _one_page(outlines: Sequence[Outline], max_size_bytes: int) -> Sequence[Outline]:
    """Take as many mails from the front as the limit in bytes allows, but always one, so that reading goes on."""
    total = 0
    for place, outline in enumerate(outlines):
        total += outline.size if outline.size <= max_size_bytes else _HEADER_BYTES
        if place and total > max_size_bytes:
            return outlines[:place]
    return outlines


def _read(folder: Folder, outlines: Sequence[Outline], max_size_bytes: int) -> tuple[RawMail, ...]:
    large = {outline.uid for outline in outlines if outline.size > max_size_bytes}
    raw = folder.bodies([outline.uid for outline in outlines if outline.uid not in large], "BODY.PEEK[]")
    raw |= folder.bodies(sorted(large), f"BODY.PEEK[HEADER]<0.{_HEADER_BYTES}>")
    return tuple(
        RawMail(
            key=folder.cursor(outline.uid),
            raw=raw[outline.uid],
            received_at=outline.received_at,
            truncated=outline.uid in large,
        )
        for outline in outlines
        if outline.uid in raw  # it may have been deleted in this moment
    )
