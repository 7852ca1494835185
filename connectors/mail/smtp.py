"""Mail out by SMTP."""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
import weakref
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic

from orchestrator.capabilities import OutgoingMail, Receipt
from orchestrator.errors import AccessDenied, ConnectorError, RateLimited, Rejected, Unavailable
from orchestrator_connectors.mail.deadline import Deadline
from orchestrator_connectors.mail.message import compose, message_id
from orchestrator_connectors.mail.oauth import TOKEN_REMEDY, MailTokens, proof
from orchestrator_connectors.mail.settings import MailSettings
from orchestrator_connectors.mail.wire import Wire

_SUCCESS = range(200, 300)
_TEMPORARY = range(400, 500)
_PERMANENT = range(500, 600)
_READY_FOR_DATA = 354
_LOGGED_IN = 235
_CLOSING = 421
"""The server has closed a connection that rested too long (RFC 5321 section 3.8), or goes down: then it may answer so
to any command (4.2.3), which says nothing of a mail that it has just read."""
_REFUSED_BY_POLICY = b"4.7."
"""RFC 3463 section 3.8. With it, 421 is about the mail (Google's "SMTP error reference": 421 4.7.0, 4.7.28)."""
_SAYS_WHY_NOT = 334
"""XOAUTH2: a server that refuses says why, and waits for an empty line before it does refuse."""
_LOGIN_PROBLEMS = frozenset({530, 534, 535, 538})
"""RFC 4954: a login is required, too weak, wrong, or needs TLS."""
_TOO_LARGE = 552
_NAME_NOT_ALLOWED = 553
_NOT_AUTHORIZED = b"5.7."
"""RFC 3463 section 3.8: by the server's policy."""
_NOT_AS_THIS_SENDER = re.compile(rb"SendAsDenied|permissions to send as this sender", re.IGNORECASE)
"""Microsoft's servers say so when they have seen the whole mail (learn.microsoft.com, "NDR 5.7.60")."""
_THROTTLING = b"Throttling failure"
_SLOW_DOWN = re.compile(rb"4\.7\.\d|[45]\.4\.5\b|" + _THROTTLING)
"""RFC 3463: a policy that passes, such as a rate; a system that is congested, with which Google also means a day's
quota; and Amazon's word. SMTP has none for how long to wait."""
_NO_LOGIN_NOW = 454
"""RFC 4954 and RFC 3207: the login, or TLS, failed on the server's side."""
_SEND_AS = "this account must be allowed to send as 'address', or 'address' must be its own"
_REST_SECONDS = 30
"""Shorter than servers wait for the next command (RFC 5321 section 4.5.3.2 says five minutes; many wait one)."""
_LINE_WITH_DOT = re.compile(rb"(?m)^\.")
_END_OF_MAIL = b".\r\n"


class SmtpMailer:
    """One account's way to send.

    Args:
        settings: The account.
        tokens: What logins are proven with, if not with a password.
    """

    def __init__(self, settings: MailSettings, *, tokens: MailTokens | None = None) -> None:
        self._settings = settings
        self._tokens = tokens
        self._wire = Wire(settings.smtp)
        self._kept = _Kept()
        weakref.finalize(self, self._kept.close)

    def send(self, mail: OutgoingMail, *, effect_id: str | None = None) -> Receipt:
        """Send the mail within the total time, from the connection to the server's last answer.

        Raises:
            ConnectorError: Without effect, unless the end of the mail went out and the server's answer
                to it was not seen (RFC 1047). The end never goes out once the time is over.
        """
        try:
            identifier = message_id(effect_id, self._settings.id_domain)
            message = compose(mail, sender=self._settings.sender, identifier=identifier)
            payload = message.as_bytes()
        except ValueError as exc:
            raise Rejected(f"the mail cannot be written: {exc}") from exc
        recipient = str(message["To"])
        with self._conversation(lambda client: client.begin_mail(len(payload))) as client:
            client.hand_over(payload, recipient)
        return Receipt(reference=identifier)

    def check(self) -> str:
        """Log in afresh, see that we may send as ``address``, and send nothing."""
        self._kept.close()
        with self._conversation(_Client.offer):
            pass
        login = " and accepts the login" if self._settings.smtp.username else ""
        return f"SMTP server {self._wire.server.place} answers{login}"

    @contextmanager
    def _conversation(self, first: _Command) -> Iterator[_Client]:
        """Give the command on a connection whose server is there, a kept one if there is any."""
        deadline = Deadline(self._settings.timeout_seconds)
        try:
            with deadline:
                client = self._kept.take(deadline, first) or self._begin(deadline, first)
                try:
                    yield client
                except BaseException:
                    client.close()
                    raise
            self._kept.put(client)  # only now: another thread may take it at once
        except (smtplib.SMTPException, OSError, ValueError) as exc:
            raise translated(exc, place=self._wire.server.place, late=deadline.passed) from exc

    def _begin(self, deadline: Deadline, first: _Command) -> _Client:
        client = _Client(self._settings, self._wire, deadline, self._tokens)
        try:
            client.begin()
            first(client)
        except BaseException:
            client.close()
            raise
        return client


_Command = Callable[["_Client"], object]


class _Kept:
    """Conversations that stay open for the next mail, because to begin one takes longer than to send a mail."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._clients: list[_Client] = []

    def put(self, client: _Client) -> None:
        """Keep a conversation that went well."""
        client.rests_since = monotonic()
        with self._lock:
            self._clients.append(client)

    def take(self, deadline: Deadline, first: _Command) -> _Client | None:
        """Take out one whose server is still there, and answers the command."""
        while (client := self._pop()) is not None:
            if client.goes_on(deadline, first):
                return client
            client.close()
        return None

    def close(self) -> None:
        """Let go of all."""
        while (client := self._pop()) is not None:
            client.close()

    def _pop(self) -> _Client | None:
        with self._lock:
            return self._clients.pop() if self._clients else None


class _Client(smtplib.SMTP):
    """One conversation; whatever goes wrong in it before the end of a mail has no effect."""

    rests_since = 0.0

    def __init__(self, settings: MailSettings, wire: Wire, deadline: Deadline, tokens: MailTokens | None) -> None:
        self._settings = settings.smtp
        self._sender = settings.sender.addr_spec
        self._tokens = tokens
        self._wire = wire
        self._deadline = deadline
        # Without a name of its own the library would look up this computer's, which can take long.
        super().__init__(settings.smtp.host, settings.smtp.port, local_hostname=settings.id_domain)

    def _get_socket(self, *_: object) -> socket.socket:
        return self._wire.connect(self._deadline)

    def begin(self) -> None:
        """Introduce ourselves, secure the connection and log in, as the settings say."""
        if self._settings.security == "starttls":
            self.starttls(context=self._wire.tls)
        self.ehlo_or_helo_if_needed()
        if self._settings.username and self._tokens:
            self._log_in_by_token(self._settings.username, self._tokens)
        elif self._settings.username and self._settings.password:
            self._log_in(self._settings.username, self._settings.password.get_secret_value())

    def goes_on(self, deadline: Deadline, first: _Command) -> bool:
        """Give the next command in a kept conversation; tell whether its server was still there.

        Raises:
            smtplib.SMTPResponseException: It was, and refuses the command.
        """
        if self.sock is None or monotonic() - self.rests_since > _REST_SECONDS:
            return False
        try:
            self._deadline = deadline
            deadline.watch(self.sock)
            first(self)
        except smtplib.SMTPResponseException as exc:
            if exc.smtp_code == _CLOSING:
                return False
            self.close()
            raise
        except (smtplib.SMTPException, OSError):
            return False
        return True

    def _log_in(self, username: str, password: str) -> None:
        if "PLAIN" not in self.esmtp_features.get("auth", "").split():
            self.login(username, password)
            return
        # The library's own PLAIN refuses names and passwords that are not ASCII, which RFC 4616 allows.
        proof = b64encode(f"\0{username}\0{password}".encode()).decode()
        code, answer = self.docmd("AUTH", f"PLAIN {proof}")
        if code != _LOGGED_IN:
            raise smtplib.SMTPAuthenticationError(code, answer)

    def _log_in_by_token(self, username: str, tokens: MailTokens) -> None:
        known = tokens.tokens()
        code, answer = self.docmd("AUTH", f"XOAUTH2 {b64encode(proof(username, known).encode()).decode()}")
        if code == _SAYS_WHY_NOT:
            code, answer = self.docmd("")
        if code in _PERMANENT:
            tokens.refused(known)
            raise AccessDenied(f"SMTP server {self._settings.place} refuses the token: {TOKEN_REMEDY}")
        if code != _LOGGED_IN:
            raise smtplib.SMTPAuthenticationError(code, answer)

    def offer(self) -> None:
        """Begin a mail from our address to itself, and give it up.

        Raises:
            smtplib.SMTPSenderRefused: We may not send as this address; many servers say so at the recipient.
        """
        code, answer = self.mail(self._sender)
        refused = code not in _SUCCESS
        if not refused:
            code, answer = self.rcpt(self._sender)
            # Whether it takes mail for that address is another matter.
            refused = code in _LOGIN_PROBLEMS | {_NAME_NOT_ALLOWED} or answer.startswith(_NOT_AUTHORIZED)
        if refused:
            raise smtplib.SMTPSenderRefused(code, answer, self._sender)
        self.rset()

    def begin_mail(self, size: int) -> None:
        """Begin a mail of so many bytes.

        Raises:
            smtplib.SMTPException: It was refused, or the connection broke off.
        """
        # The library would take the addresses of a mail apart first, which are plain ones.
        sized = f" SIZE={size}" if self.has_extn("size") else ""
        code, answer = self.docmd("MAIL", f"FROM:<{self._sender}>{sized}")
        if code not in _SUCCESS:
            raise smtplib.SMTPSenderRefused(code, answer, self._sender)

    def hand_over(self, payload: bytes, recipient: str) -> None:
        """Hand over the mail that was begun, for exactly one recipient.

        Raises:
            Unavailable: Ambiguous: the end of the mail went out, and no definite answer came.
            smtplib.SMTPException: It was refused or broke off before.
            TimeoutError: The time was over before the end went out, so that the server must not take it.
        """
        code, answer = self.docmd("RCPT", f"TO:<{recipient}>")
        if code not in _SUCCESS:
            raise smtplib.SMTPResponseException(code, answer)
        code, answer = self.docmd("DATA")
        if code != _READY_FOR_DATA:
            raise smtplib.SMTPDataError(code, answer)
        self.send(_LINE_WITH_DOT.sub(b"..", payload))
        if self.sock is not None:
            self._deadline.admit_end(self.sock)
        self._end_mail()

    def _end_mail(self) -> None:
        try:
            self.send(_END_OF_MAIL)
            code, answer = self.getreply()
        except (smtplib.SMTPException, OSError, ValueError) as exc:
            raise Unavailable(
                f"SMTP server {self._settings.place} did not say whether it took the mail: look into the sent mail"
            ) from exc
        refused = code in _TEMPORARY or code in _PERMANENT  # it must not deliver the mail then (RFC 5321 4.2.5)
        if refused and (code != _CLOSING or answer.startswith(_REFUSED_BY_POLICY)):
            raise smtplib.SMTPDataError(code, answer)
        if code not in _SUCCESS:
            raise Unavailable(
                f"SMTP server {self._settings.place} gave no readable answer to the mail: look into the sent mail"
            ) from smtplib.SMTPDataError(code, answer)


def translated(exc: Exception, *, place: str, late: bool = False) -> ConnectorError:
    """Say in the orchestrator's words what went wrong before the server took the mail.

    Args:
        exc: What the library raised.
        place: The server, as messages name it.
        late: Whether the time was over.
    """
    match exc:
        case smtplib.SMTPResponseException():
            return _refusal(exc, place)
        case smtplib.SMTPNotSupportedError():
            return AccessDenied(f"SMTP server {place} cannot do what smtp.security or smtp.username ask for: {exc}")
        case ssl.SSLCertVerificationError():
            return AccessDenied(
                f"SMTP server {place} shows a certificate that is not trusted ({exc.verify_message}): "
                "correct smtp.host or set smtp.ca_file"
            )
        case UnicodeEncodeError():
            return AccessDenied(f"SMTP server {place} takes ASCII logins only: set another smtp.password")
        case _ if late:
            return Unavailable(f"SMTP server {place} took longer than timeout_seconds", no_effect=True)
        case _:
            reason = getattr(exc, "strerror", None) or type(exc).__name__
            return Unavailable(f"SMTP server {place} cannot be reached or broke off ({reason})", no_effect=True)


def _refusal(exc: smtplib.SMTPResponseException, place: str) -> ConnectorError:
    # The server's own words are left out: they often repeat the address.
    said = f"SMTP server {place} refuses with {exc.smtp_code}"
    if _asks_to_slow_down(exc):
        return RateLimited(f"{said}: it asks to slow down")
    if exc.smtp_code in _TEMPORARY:
        return Unavailable(f"{said}, for now", no_effect=True)
    if exc.smtp_code not in _PERMANENT:
        return Unavailable(f"SMTP server {place} gave an answer that cannot be read", no_effect=True)
    if remedy := _remedy(exc):
        return AccessDenied(f"{said}: {remedy}")
    return Rejected(f"{said} the recipient or the content, for good")


def _asks_to_slow_down(exc: smtplib.SMTPResponseException) -> bool:
    said = exc.smtp_error if isinstance(exc.smtp_error, bytes) else exc.smtp_error.encode()
    if exc.smtp_code == _NO_LOGIN_NOW and not said.startswith(_THROTTLING):
        return False
    return bool(_SLOW_DOWN.match(said))


def _remedy(exc: smtplib.SMTPResponseException) -> str:
    """Return what a person must fix, or nothing if the mail itself was refused."""
    match exc:
        case smtplib.SMTPAuthenticationError():
            return "correct smtp.username and smtp.password"
        case smtplib.SMTPConnectError() | smtplib.SMTPHeloError():
            return "ask the provider why it does not speak with us"
        case _ if exc.smtp_code in _LOGIN_PROBLEMS:
            return "set smtp.username and smtp.password to a login that it accepts"
        case smtplib.SMTPSenderRefused() if exc.smtp_code != _TOO_LARGE:
            return _SEND_AS
        case smtplib.SMTPDataError(smtp_error=bytes() as said) if _NOT_AS_THIS_SENDER.search(said):
            return _SEND_AS
        case _:
            return ""
