"""Mail in by IMAP, and the look into what was sent.

The conversation is imap-tools' (logins, folder names, searches). Mails are fetched beneath it: its own fetch
parses each mail, and we need the bytes, the size first and the server's date.
"""

from __future__ import annotations

import imaplib
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from imap_tools import BaseMailBox, ImapToolsError
from imap_tools.errors import MailboxFolderSelectError, MailboxLoginError

from connectors.mail.deadline import Deadline
from connectors.mail.settings import ImapSettings, MailSettings
from connectors.mail.wire import Wire
from orchestrator.capabilities import MailPage, RawMail
from orchestrator.errors import AccessDenied, ConnectorError, Rejected, Unavailable

_PAGE = 100
"""Servers refuse command lines of more than some 8000 characters (RFC 7162 section 4)."""
_WINDOW = 50_000
"""The library reads answers of at most a million characters, and a UID takes up to eleven."""
_HEADER_BYTES = 256 * 1024
_CURSOR = re.compile(r"(\d{1,10}):(\d{1,10})")
_TEMPORARY = re.compile(rb"\[(UNAVAILABLE|SERVERBUG|INUSE|LIMIT|CONTACTADMIN)\]", re.IGNORECASE)  # RFC 5530
_UID = re.compile(rb"\bUID (\d+)")
_SIZE = re.compile(rb"\bRFC822\.SIZE (\d+)")
_DATE = re.compile(rb'\bINTERNALDATE "([^"]+)"')
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_QUOTED_BODY = re.compile(rb"\bBODY\[[A-Z]*\](?:<0>)? " + _QUOTED.pattern)


class ImapMailbox:
    """One account's mailbox; it is only ever opened to be read.

    Args:
        settings: The server and the folders.
        account: The limits: one operation's total time, and the size of a mail, which is also that of a page.
    """

    def __init__(self, settings: ImapSettings, *, account: MailSettings) -> None:
        self._settings = settings
        self._timeout_seconds = account.timeout_seconds
        self._max_size_bytes = account.max_size_bytes
        self._wire = Wire(settings)

    def position(self) -> str:
        """Return the cursor behind the last mail."""
        with self._opened(self._settings.folder) as folder:
            return folder.cursor(folder.next_uid - 1)

    def new_mail(self, cursor: str | None, *, limit: int) -> MailPage:
        """Read at most ``limit`` (and 100) mails behind the cursor."""
        if limit < 1:
            raise Rejected("limit must be at least 1")
        with self._opened(self._settings.folder) as folder:
            last = folder.last_uid(cursor)
            outlines = self._one_page(folder.outlines(folder.uids_behind(last, min(limit, _PAGE))))
            mails = self._read(folder, outlines)
            return MailPage(mails=mails, cursor=folder.cursor(outlines[-1].uid if outlines else last))

    def holds(self, message_id: str, *, folder: str) -> bool:
        """Look whether a mail with this Message-ID lies in the folder."""
        with self._opened(folder) as opened:
            return opened.holds(message_id)

    def check(self) -> str:
        """Log in and open the folders."""
        with self._opened(self._settings.folder) as folder:
            seen = f"IMAP server {self._wire.server.place} holds {folder.count} mails in {self._settings.folder}"
        if self._settings.sent_folder is None:
            return f"{seen}, and sent mail cannot be looked up (imap.sent_folder is not set): a person settles doubts"
        with self._opened(self._settings.sent_folder):
            return f"{seen}, and sent mail is looked up in {self._settings.sent_folder}"

    def _one_page(self, outlines: Sequence[_Outline]) -> Sequence[_Outline]:
        """Take as many mails from the front as the limit in bytes allows, but always one, so that reading goes on."""
        total = 0
        for place, outline in enumerate(outlines):
            total += outline.size if outline.size <= self._max_size_bytes else _HEADER_BYTES
            if place and total > self._max_size_bytes:
                return outlines[:place]
        return outlines

    def _read(self, folder: _Folder, outlines: Sequence[_Outline]) -> tuple[RawMail, ...]:
        large = {outline.uid for outline in outlines if outline.size > self._max_size_bytes}
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

    @contextmanager
    def _opened(self, name: str) -> Iterator[_Folder]:
        deadline = Deadline(self._timeout_seconds)
        try:
            with deadline, _logged_in(self._settings, self._wire, deadline) as box:
                yield _Folder(box, name, place=self._wire.server.place)
        except (imaplib.IMAP4.error, ImapToolsError, OSError, ValueError) as exc:
            raise translated(exc, place=self._wire.server.place, late=deadline.passed) from exc


@dataclass(frozen=True)
class _Outline:
    """What is known of a mail before it is read."""

    uid: int
    size: int
    received_at: datetime


class _Folder:
    """A folder opened with EXAMINE, so that not even a flag can change."""

    def __init__(self, box: BaseMailBox, name: str, *, place: str) -> None:
        self._box = box
        self._place = place
        try:
            box.folder.set(name, readonly=True)
        except MailboxFolderSelectError as exc:
            if _TEMPORARY.search(str(exc).encode()):
                raise
            names = ", ".join(folder.name for folder in box.folder.list())
            raise AccessDenied(f"IMAP server {place} does not open the folder {name!r}; there are: {names}") from exc
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

    def outlines(self, uids: Sequence[int]) -> list[_Outline]:
        """Return size and date of the mails that are still there, in order."""
        found = []
        for uid, text, _ in self._fetch(uids, "RFC822.SIZE INTERNALDATE"):
            size, date = _SIZE.search(text), _DATE.search(text)
            if size and date:
                found.append(_Outline(uid, int(size[1]), _utc(date[1].decode())))
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


class _Client(imaplib.IMAP4):
    """A connection within a deadline."""

    def __init__(self, wire: Wire, deadline: Deadline) -> None:
        self._wire = wire
        self._deadline = deadline
        super().__init__(wire.server.host, wire.server.port)

    def _create_socket(self, *_: object) -> socket.socket:
        return self._wire.connect(self._deadline)


class _Box(BaseMailBox):
    """imap-tools over our own connection."""

    def __init__(self, client: imaplib.IMAP4) -> None:
        self._own = client
        super().__init__()

    def _get_mailbox_client(self) -> imaplib.IMAP4:
        return self._own


@contextmanager
def _logged_in(settings: ImapSettings, wire: Wire, deadline: Deadline) -> Iterator[BaseMailBox]:
    client = _Client(wire, deadline)
    try:
        if settings.security == "starttls":
            if "STARTTLS" not in client.capabilities:
                raise AccessDenied(f'IMAP server {settings.place} has no STARTTLS: set imap.security = "tls"')
            client.starttls(wire.tls)
        box = _Box(client)
        _log_in(box, settings)
        yield box
        with suppress(imaplib.IMAP4.error, OSError):
            client.logout()
    finally:
        with suppress(OSError):
            client.shutdown()


def _log_in(box: BaseMailBox, settings: ImapSettings) -> None:
    # LOGIN takes ASCII only.
    log_in = box.login_utf8 if "AUTH=PLAIN" in box.client.capabilities else box.login
    try:
        log_in(settings.username, settings.password.get_secret_value(), initial_folder=None)
    except imaplib.IMAP4.abort:
        raise
    except (imaplib.IMAP4.error, MailboxLoginError, UnicodeEncodeError) as exc:
        if _TEMPORARY.search(str(exc).encode()):
            raise
        raise AccessDenied(
            f"IMAP server {settings.place} refuses the login: correct imap.username and imap.password"
        ) from exc


def translated(exc: Exception, *, place: str, late: bool = False) -> ConnectorError:
    """Say in the orchestrator's words what went wrong while reading.

    Args:
        exc: What the library raised.
        place: The server, as messages name it.
        late: Whether the time was over.
    """
    if isinstance(exc, ssl.SSLCertVerificationError):
        return AccessDenied(
            f"IMAP server {place} shows a certificate that is not trusted ({exc.verify_message}): "
            "correct imap.host or set imap.ca_file"
        )
    if late:
        return Unavailable(f"IMAP server {place} took longer than timeout_seconds")
    if isinstance(exc, OSError):
        return Unavailable(f"IMAP server {place} cannot be reached or broke off ({exc.strerror or type(exc).__name__})")
    return Unavailable(f"IMAP server {place} broke off or gave an answer that cannot be read ({type(exc).__name__})")
