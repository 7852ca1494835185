"""A mailbox read over one kept conversation, in which the server tells of new mail (IDLE, RFC 2177).

imap-tools has an idle manager, but it hides the end of the connection, and its wait cannot be ended from outside.
"""

from __future__ import annotations

import imaplib
import selectors
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from typing import TypeVar

from imap_tools import ImapToolsError

from orchestrator.capabilities import MailPage
from orchestrator.errors import Unavailable
from orchestrator_connectors.mail.conversation import Client, Conversation
from orchestrator_connectors.mail.deadline import Deadline
from orchestrator_connectors.mail.folder import Folder
from orchestrator_connectors.mail.imap import position, read_page, within_time
from orchestrator_connectors.mail.oauth import MailTokens
from orchestrator_connectors.mail.settings import ImapSettings, MailSettings
from orchestrator_connectors.mail.wire import Wire

T = TypeVar("T")
LONGEST_IDLE_SECONDS = 28 * 60.0
"""Servers may hang up after 29 minutes without a command (RFC 2177)."""
TRUSTED_AFTER_SECONDS = 10.0
"""A server that hangs up sooner than this when it is asked to tell is not asked again at once."""


class ImapWatch:
    """One account's mailbox, watched.

    Args:
        settings: The server and the folder.
        account: The limits, as for ``ImapMailbox``.
        tokens: As for ``ImapMailbox``.
    """

    def __init__(self, settings: ImapSettings, *, account: MailSettings, tokens: MailTokens | None = None) -> None:
        self._settings = settings
        self._tokens = tokens
        self._timeout_seconds = account.timeout_seconds
        self._max_size_bytes = account.max_size_bytes
        self._wire = Wire(settings)
        self._box: Conversation | None = None
        self._known = 0
        """How many mails the folder held when it was opened last."""
        self._stopped = False
        self._alarm, self._bell = socket.socketpair()

    def position(self) -> str:
        """Return the cursor behind the last mail."""
        return self._in_folder(position)

    def new_mail(self, cursor: str | None, *, limit: int) -> MailPage:
        """Read at most ``limit`` (and 100) mails behind the cursor."""
        return self._in_folder(
            lambda folder: read_page(folder, cursor, limit=limit, max_size_bytes=self._max_size_bytes)
        )

    def wait(self, timeout: timedelta) -> bool:
        """Wait until the server tells of mail; without IDLE, until the time is over."""
        began, seconds = monotonic(), min(timeout.total_seconds(), LONGEST_IDLE_SECONDS)
        try:
            came = self._told_of_mail(began + seconds)
        except (imaplib.IMAP4.error, ImapToolsError, OSError, ValueError):
            self._hang_up()
            came = monotonic() - began > TRUSTED_AFTER_SECONDS
            if not came:
                self._rest(began + seconds)
        return came and not self._stopped

    def stop(self) -> None:
        """End the wait that is under way, and every later one, at once."""
        self._stopped = True
        with suppress(OSError):  # it is closed already
            self._bell.send(b"!")

    def close(self) -> None:
        """End the conversation."""
        self._hang_up()
        self._alarm.close()
        self._bell.close()

    def _in_folder(self, read: Callable[[Folder], T]) -> T:
        """Read in the folder, opened again: so all that has come is seen, and that the server is still there."""
        if self._box is not None:
            with suppress(Unavailable):  # it may have gone while nothing was asked
                return self._once(read)
        return self._once(read)

    def _once(self, read: Callable[[Folder], T]) -> T:
        try:
            with within_time(self._wire, self._timeout_seconds) as deadline:
                folder = Folder(self._conversation(deadline), self._settings.folder, self._settings)
                self._known = folder.count
                return read(folder)
        except BaseException:
            self._hang_up()
            raise

    def _conversation(self, deadline: Deadline) -> Conversation:
        if self._box is None:
            self._box = Conversation(self._settings, self._wire, deadline, self._tokens)
        else:
            deadline.watch(self._box.client.sock)
        return self._box

    def _hang_up(self) -> None:
        if self._box is not None:
            self._box.hang_up()
            self._box = None

    def _told_of_mail(self, until: float) -> bool:
        """Ask the server to tell, and wait for it to do so."""
        if self._box is None:
            return self._rest(until)
        client = self._box.client
        if client.mail_came(self._known):
            return True
        tag = self._at_once(client, client.begin_idle)
        if tag is None:
            return self._rest(until)
        while not client.mail_came(self._known) and (client.something_came or self._readable(client.sock, until)):
            self._at_once(client, client.hear)
        self._at_once(client, lambda: client.end_idle(tag))
        return client.mail_came(self._known)

    def _at_once(self, client: Client, act: Callable[[], T]) -> T:
        with Deadline(self._timeout_seconds) as deadline:
            deadline.watch(client.sock)
            return act()

    def _rest(self, until: float) -> bool:
        self._readable(None, until)
        return False

    def _readable(self, connection: socket.socket | None, until: float) -> bool:
        """Wait until something comes over the connection; False if the time is over, or the wait was stopped."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._alarm, selectors.EVENT_READ)
            if connection is not None:
                selector.register(connection, selectors.EVENT_READ)
            ready = selector.select(max(until - monotonic(), 0))
        return bool(ready) and not self._stopped
