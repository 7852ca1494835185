"""A conversation with an IMAP server: connected, secured and logged in within a deadline."""

from __future__ import annotations

import imaplib
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property

from imap_tools import BaseMailBox
from imap_tools.errors import MailboxLoginError

from orchestrator.errors import AccessDenied, ConnectorError, RateLimited, Unavailable
from orchestrator_connectors.mail.deadline import Deadline
from orchestrator_connectors.mail.oauth import TOKEN_REMEDY, MailTokens
from orchestrator_connectors.mail.settings import ImapSettings
from orchestrator_connectors.mail.wire import Wire

TEMPORARY = re.compile(rb"\[(UNAVAILABLE|SERVERBUG|INUSE|LIMIT|THROTTLED|CONTACTADMIN)\]", re.IGNORECASE)
"""Refusals that pass by themselves (RFC 5530)."""
_SLOW_DOWN = re.compile(r"\[(LIMIT|THROTTLED)\]", re.IGNORECASE)
"""A limit of logins, connections or commands (RFC 5530; THROTTLED is Google's). IMAP has no word for how long."""

_CHUNK = 64 * 1024
_LONGEST_LINE = 1_000_000
"""What the library itself allows."""


class Client(imaplib.IMAP4):
    """A connection within a deadline. It reads by itself, because it must know whether something has come already."""

    def __init__(self, wire: Wire, deadline: Deadline) -> None:
        self._wire = wire
        self._deadline = deadline
        self._came = bytearray()
        self._came_from: socket.socket | None = None
        super().__init__(wire.server.host, wire.server.port)

    def _create_socket(self, *_: object) -> socket.socket:
        return self._wire.connect(self._deadline)

    def readline(self) -> bytes:
        """Read a line; what is left at the end of the connection, if it ends."""
        searched = 0
        while (end := self._unread.find(b"\n", searched) + 1) == 0:
            searched = len(self._came)
            if searched > _LONGEST_LINE:
                raise self.error("the server sent an endless line")
            if not self._receive():
                return self._take(searched)
        return self._take(end)

    def read(self, size: int) -> bytes:
        """Read so many bytes; fewer if the connection ends."""
        while len(self._unread) < size and self._receive():
            pass
        return self._take(size)

    @property
    def something_came(self) -> bool:
        """Whether a line is here, or bytes are, that no look at the socket would show."""
        return b"\n" in self._unread or (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0)

    @property
    def _unread(self) -> bytearray:
        if self._came_from is not self.sock:  # what came before TLS began may be anybody's
            self._came.clear()
            self._came_from = self.sock
        return self._came

    def _receive(self) -> bool:
        chunk = self.sock.recv(_CHUNK)
        self._came += chunk
        return bool(chunk)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._came[:size])
        del self._came[:size]
        return taken

    @cached_property
    def can_idle(self) -> bool:
        """Whether the server can tell of mail; many say so only after the login."""
        _, told = self.capability()
        return b"IDLE" in b" ".join(told).upper().split()

    def begin_idle(self) -> bytes | None:
        """Ask the server to tell what happens in the folder (RFC 2177).

        Returns:
            What ends it; None if the server cannot, or refuses.
        """
        if not self.can_idle:
            return None
        tag: bytes = self._command("IDLE")
        while self._get_response() is not None:
            if self.tagged_commands[tag] is not None:
                del self.tagged_commands[tag]
                return None
        return tag

    def hear(self) -> None:
        """Read what the server tells, as far as it has come."""
        if b"\n" not in self._unread and not self._receive_what_is_there():
            raise self.abort("the server ended the connection")
        while b"\n" in self._unread:
            self._get_response()
        self._check_bye()

    def _receive_what_is_there(self) -> bool:
        """Receive without waiting; False if the connection has ended."""
        patience = self.sock.gettimeout()
        self.sock.settimeout(0)
        try:
            return self._receive()
        except (BlockingIOError, ssl.SSLWantReadError):  # what came concerns TLS alone
            return True
        finally:
            self.sock.settimeout(patience)

    def end_idle(self, tag: bytes) -> None:
        """Go back to questions and answers."""
        self.send(b"DONE\r\n")
        self._command_complete("IDLE", tag)

    def mail_came(self, known: int) -> bool:
        """Tell whether the folder has more mails than are known; some servers repeat how many there are."""
        told = [number for number in self.untagged_responses.get("EXISTS", ()) if isinstance(number, bytes)]
        return bool(told) and int(told[-1]) > known - len(self.untagged_responses.get("EXPUNGE", ()))


class Conversation(BaseMailBox):
    """imap-tools over our own connection, secured and logged in.

    Args:
        settings: The server.
        wire: How it is reached.
        deadline: Until when all this must have happened.
        tokens: What the login is proven with, if not with a password.
    """

    client: Client

    def __init__(
        self, settings: ImapSettings, wire: Wire, deadline: Deadline, tokens: MailTokens | None = None
    ) -> None:
        self._own = Client(wire, deadline)
        try:
            if settings.security == "starttls":
                _start_tls(self._own, settings, wire)
            super().__init__()
            _log_in(self, settings, tokens)
        except BaseException:
            self.hang_up()
            raise

    def _get_mailbox_client(self) -> imaplib.IMAP4:
        return self._own

    def hang_up(self) -> None:
        """Close the connection without a word."""
        with suppress(OSError):
            self._own.shutdown()


@contextmanager
def conversation(
    settings: ImapSettings, wire: Wire, deadline: Deadline, tokens: MailTokens | None
) -> Iterator[Conversation]:
    """Have a conversation, from the connection to the farewell."""
    box = Conversation(settings, wire, deadline, tokens)
    try:
        yield box
        with suppress(imaplib.IMAP4.error, OSError):
            box.client.logout()
    finally:
        box.hang_up()


def _start_tls(client: Client, settings: ImapSettings, wire: Wire) -> None:
    if "STARTTLS" not in client.capabilities:
        raise AccessDenied(f'IMAP server {settings.place} has no STARTTLS: set imap.security = "tls"')
    client.starttls(wire.tls)


def _log_in(box: BaseMailBox, settings: ImapSettings, tokens: MailTokens | None) -> None:
    known = tokens.tokens() if tokens else None
    try:
        if known is not None:
            box.xoauth2(settings.username, known.access_token, initial_folder=None)
        elif settings.password is not None:
            # LOGIN takes ASCII only.
            log_in = box.login_utf8 if "AUTH=PLAIN" in box.client.capabilities else box.login
            log_in(settings.username, settings.password.get_secret_value(), initial_folder=None)
    except imaplib.IMAP4.abort:
        raise
    except (imaplib.IMAP4.error, MailboxLoginError, UnicodeEncodeError) as exc:
        if TEMPORARY.search(str(exc).encode()):
            raise
        if tokens is not None and known is not None:
            tokens.refused(known)
            raise AccessDenied(f"IMAP server {settings.place} refuses the token: {TOKEN_REMEDY}") from exc
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
    if _SLOW_DOWN.search(str(exc)):
        return RateLimited(f"IMAP server {place} asks to slow down")
    if late:
        return Unavailable(f"IMAP server {place} took longer than timeout_seconds")
    if isinstance(exc, OSError):
        return Unavailable(f"IMAP server {place} cannot be reached or broke off ({exc.strerror or type(exc).__name__})")
    return Unavailable(f"IMAP server {place} broke off or gave an answer that cannot be read ({type(exc).__name__})")
