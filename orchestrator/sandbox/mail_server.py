"""A mail provider on this computer: SMTP (aiosmtpd) and IMAP (pymap) over the same mailboxes in memory."""

# ruff: noqa: ARG002, N802 -- aiosmtpd finds its hooks by name and calls them by position

from __future__ import annotations

import asyncio
import ssl
import threading
from argparse import Namespace
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from proxyprotocol.sock import SocketInfo
from pymap.backend.dict import Config, Login
from pymap.backend.dict.filter import FilterSet
from pymap.backend.dict.mailbox import MailboxData, MailboxSet
from pymap.concurrent import Event, Subsystem
from pymap.imap import IMAPServer
from pymap.parsing.message import AppendMessage
from pymap.parsing.specials.objectid import ObjectId
from pymap.selected import SelectedMailbox
from pymap.user import UserMetadata
from pysasl.hashing import BuiltinHash

HOST = "127.0.0.1"
SENT = "Sent"
_MAX_MAIL_BYTES = 50 * 1024 * 1024
_START_SECONDS = 10

Clock = Callable[[], datetime]
Route = Callable[[bytes], object]
"""Takes a mail at once, from any thread."""


class MailServer:
    """A mail provider: what SMTP accepts lies in the recipient's INBOX, byte for byte, and in the sender's Sent.

    Use it as a context manager; ports are free ones of 127.0.0.1 and are known once it has started.

    Args:
        accounts: Password by mail address; the address in lower case is also the login name.
        auth_required: Whether SMTP takes mail only after a login. Without it a mail counts as
            submitted by the account that its envelope names as sender.
        routes: Who takes mail for addresses of another provider.
        tls: The server's certificate. With it both ports offer STARTTLS, and two more speak TLS at once.
        files_sent: Whether what an account sends is filed in its Sent; many providers do not.
    """

    smtp_port: int
    imap_port: int
    smtps_port: int
    """Speaks TLS at once; there is one only with ``tls``."""
    imaps_port: int
    """Speaks TLS at once; there is one only with ``tls``."""
    files_sent: bool
    """Whether it files sent mail; may be changed."""
    ahead: timedelta
    """How far its clock is ahead of ours; may be changed."""

    def __init__(
        self,
        accounts: Mapping[str, str],
        *,
        auth_required: bool = False,
        routes: Mapping[str, Route] | None = None,
        tls: ssl.SSLContext | None = None,
        files_sent: bool = True,
    ) -> None:
        self.files_sent = files_sent
        self._routes = {address.lower(): route for address, route in (routes or {}).items()}
        self._accounts = {address.lower(): password for address, password in accounts.items()}
        self._auth_required = auth_required
        self._tls = tls
        self._transports: set[asyncio.WriteTransport] = set()
        self.ahead = timedelta(0)

    def change_password(self, address: str, password: str) -> None:
        """Let another password count from now on; whoever is connected is thrown out, as many providers do."""
        done: Future[None] = Future()

        def change() -> None:
            self._accounts[address] = password
            self._imap.enrol(address, password)
            for transport in tuple(self._transports):
                transport.abort()
            done.set_result(None)

        self._loop.call_soon_threadsafe(change)
        done.result(timeout=_START_SECONDS)

    def __enter__(self) -> Self:
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="sandbox-mail", daemon=True)
        self._thread.start()
        started.result(timeout=_START_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def _run(self, started: Future[None]) -> None:
        try:
            asyncio.run(self._serve(started))
        except Exception as exc:  # noqa: BLE001 -- whatever stopped the start belongs to the thread that waits for it
            started.set_exception(exc)

    async def _serve(self, started: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        post = await _PostOffice.open(
            self._accounts,
            self._routes,
            auth_required=self._auth_required,
            clock=self._now,
            files_sent=lambda: self.files_sent,
        )
        servers = await self._listen(post)
        started.set_result(None)
        await self._stopping.wait()
        for server in servers:
            server.close()
        for transport in tuple(self._transports):
            transport.abort()
        # What still runs is cancelled by asyncio.run(), which waits until it is over.

    async def _listen(self, post: _PostOffice) -> list[asyncio.Server]:
        def smtp() -> SMTP:
            return _SmtpSession(post, self._transports, tls=self._tls)

        imap = self._imap = _ImapSessions(post, self._transports, tls=self._tls)
        servers = [await self._loop.create_server(smtp, HOST, 0), await asyncio.start_server(imap, HOST, 0)]
        self.smtp_port, self.imap_port = map(_port, servers)
        if self._tls:
            secure = [
                await self._loop.create_server(smtp, HOST, 0, ssl=self._tls),
                await asyncio.start_server(imap, HOST, 0, ssl=self._tls),
            ]
            self.smtps_port, self.imaps_port = map(_port, secure)
            servers += secure
        return servers


class _PostOffice:
    """Every account's mailboxes, and aiosmtpd's handler: it decides what is taken and files it."""

    def __init__(
        self,
        accounts: Mapping[str, str],
        routes: Mapping[str, Route],
        *,
        auth_required: bool,
        clock: Clock,
        files_sent: Callable[[], bool],
    ) -> None:
        self.accounts = accounts
        self._files_sent = files_sent
        self._clock = clock
        self._routes = routes
        self._auth_required = auth_required
        self.mailboxes = {address: _Mailboxes() for address in accounts}

    @classmethod
    async def open(cls, accounts: Mapping[str, str], routes: Mapping[str, Route], **options: Any) -> _PostOffice:
        post = cls(accounts, routes, **options)
        for mailboxes in post.mailboxes.values():
            await mailboxes.add_mailbox(SENT)
        return post

    def accepts(self, address: str, password: str) -> bool:
        return self.accounts.get(address) == password

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._auth_required and not session.authenticated:
            return "530 5.7.0 Authentication required"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.lower() not in self.mailboxes.keys() | self._routes.keys():
            return "550 5.1.1 No such mailbox here"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        raw = envelope.original_content or b""
        sender = str(session.auth_data) if session.authenticated else (envelope.mail_from or "")
        if self._files_sent() and (mailboxes := self.mailboxes.get(sender.lower())):
            await _file(raw, await mailboxes.get_mailbox(SENT), self._clock())
        for address in map(str.lower, envelope.rcpt_tos):
            if address in self._routes:
                self._routes[address](raw)
            else:
                await _file(raw, await self.mailboxes[address].get_mailbox("INBOX"), self._clock())
        return "250 2.0.0 OK"


class _Mailbox(MailboxData):
    """A mailbox that tells an idle client at once what came before it was idle, as RFC 2177 asks."""

    async def update_selected(self, selected: SelectedMailbox, *, wait_on: Event | None = None) -> SelectedMailbox:
        told = selected.mod_sequence == self._mod_sequences.highest
        return await super().update_selected(selected, wait_on=wait_on if told else None)


class _Mailboxes(MailboxSet):
    """Mailboxes of that kind."""

    def __init__(self) -> None:
        super().__init__()
        self._inbox = self._new()

    async def add_mailbox(self, name: str) -> ObjectId:
        await super().add_mailbox(name)
        self._set[name] = self._new()
        return self._set[name].mailbox_id

    def _new(self) -> _Mailbox:
        return _Mailbox(self._content_cache, self._thread_cache)


async def _file(raw: bytes, mailbox: MailboxData, now: datetime) -> None:
    try:
        message = await mailbox.append(AppendMessage(raw, now), recent=True)
    except Exception:  # noqa: BLE001 -- pymap parses while it files, and cannot parse every broken mail
        message = await mailbox.append(AppendMessage(b"", now), recent=True)
    # pymap loses the last byte of a mail that ends within its headers.
    message._content._raw = memoryview(raw)  # type: ignore[union-attr]  # noqa: SLF001


class _SmtpSession(SMTP):
    """One SMTP conversation, whose connection is known to the server so that it can be closed."""

    def __init__(
        self, post: _PostOffice, transports: set[asyncio.WriteTransport], *, tls: ssl.SSLContext | None
    ) -> None:
        self._post = post
        self._transports = transports
        super().__init__(
            post,
            data_size_limit=_MAX_MAIL_BYTES,
            hostname="localhost",  # else each conversation looks up the computer's name
            tls_context=tls,
            auth_require_tls=False,
            authenticator=self._log_in,
            loop=asyncio.get_running_loop(),
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transports.add(cast("asyncio.WriteTransport", transport))
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transports.discard(cast("asyncio.WriteTransport", self.transport))
        super().connection_lost(error)

    def _log_in(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: Any) -> AuthResult:
        if isinstance(login, LoginPassword):
            address = login.login.decode("utf-8", "replace").lower()
            if self._post.accepts(address, login.password.decode("utf-8", "replace")):
                return AuthResult(success=True, auth_data=address)
        return AuthResult(success=False, handled=False)


class _ImapConfig(Config):
    """pymap's settings for a server that starts at once and asks nobody for names."""

    def __init__(self, post: _PostOffice, tls: ssl.SSLContext | None) -> None:
        super().__init__(
            Namespace(passlib_cfg=None, proxy_protocol=None),
            host=HOST,
            port=0,
            demo_data=False,
            demo_user="",
            demo_password="",
            ssl_context=tls,
            tls_enabled=tls is not None,
            hash_context=BuiltinHash(rounds=1),  # the default takes 0.2 s of CPU for each login
            cpu_subsystem=Subsystem.for_asyncio(),  # the default keeps a thread pool that nobody ends
            invalid_user_sleep=0,
        )
        for address, mailboxes in post.mailboxes.items():
            self.set_cache[address] = (mailboxes, FilterSet())

    @property
    def greeting(self) -> bytes:
        return b"Server ready"  # the default looks up the computer's name


class _ImapSessions:
    """IMAP for all accounts; called with each connection."""

    def __init__(
        self, post: _PostOffice, transports: set[asyncio.WriteTransport], *, tls: ssl.SSLContext | None
    ) -> None:
        self._config = _ImapConfig(post, tls)
        self._login = Login(self._config)
        self._server = IMAPServer(self._login, self._config)
        self._transports = transports
        for address, password in post.accounts.items():
            self.enrol(address, password)

    def enrol(self, address: str, password: str) -> None:
        """Let this password count."""
        digest = self._config.hash_context.hash(self._config.password_prep(password))
        self._login.users_dict[address] = UserMetadata(self._config, address, password=digest)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transport = writer.transport  # STARTTLS puts another one in its place
        self._transports.add(transport)
        try:
            await self._server(reader, writer, SocketInfo.get(writer, None))
        finally:
            self._transports.discard(transport)


def _port(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port
