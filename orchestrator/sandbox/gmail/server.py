"""The HTTP side of the stand-in for Gmail: its API and Google's authorization server on one port."""

from __future__ import annotations

import json
import re
import smtplib
import socket
import ssl
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NoBase64
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from orchestrator.sandbox.gmail.account import GmailBox, Refused, StoredMail
from orchestrator.sandbox.gmail.faults import Answer, Break, Fault, refusal
from orchestrator.sandbox.gmail.oauth import Consents, OAuthRefused
from orchestrator.sandbox.gmail.post import bounce

_SCOPES = "https://www.googleapis.com/auth/gmail."
READ_AND_SEND = (f"{_SCOPES}readonly", f"{_SCOPES}send")
_READ = frozenset({f"{_SCOPES}readonly", f"{_SCOPES}modify"})
_SEND = frozenset({f"{_SCOPES}send", f"{_SCOPES}compose", f"{_SCOPES}modify"})
_MOST_RESULTS = 500
_DRIP_SECONDS = 0.05
_USER = "/gmail/v1/users/me/"

_OPERATIONS = {
    ("GET", "profile"): "profile",
    ("GET", "settings/sendAs"): "sendAs",
    ("GET", "history"): "history.list",
    ("GET", "messages"): "messages.list",
    ("POST", "messages/send"): "messages.send",
    ("GET", "/o/oauth2/v2/auth"): "auth",
    ("POST", "/token"): "token",
    ("POST", "/revoke"): "revoke",
    ("POST", "/tokeninfo"): "tokeninfo",
}

Query = Mapping[str, list[str]]


class GmailServer:
    """Gmail for one account, on a free port of 127.0.0.1, while the context lasts.

    Args:
        box: The account.
        consents: Who may do what.
        deliver: Called with each mail for somebody else: sender, recipient and the mail; without it, such mails
            only lie among the sent ones.
        tls: The server's certificate.
    """

    def __init__(
        self,
        box: GmailBox,
        consents: Consents | None = None,
        *,
        deliver: Callable[[str, str, bytes], None] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.box = box
        self.consents = consents or Consents()
        self.calls: list[str] = []
        """The operations asked for, in order: ``messages.send``, ``token`` and so on."""
        self.aliases: dict[str, str] = {}
        """Other addresses that the account may send as, and whether each is ``accepted`` or ``pending``."""
        self.ended = Event()
        self._deliver = deliver
        self._faults: dict[str, deque[Fault]] = {}
        self._server = _Http(self, tls)

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self._server.tls else 'http'}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()

    def fail_next(self, operation: str, *faults: Fault) -> None:
        """Script what becomes of the next calls of an operation, in order."""
        self._faults.setdefault(operation, deque()).extend(faults)

    def fault_of(self, operation: str) -> Fault | None:
        """Take the next scripted fault."""
        self.calls.append(operation)
        scripted = self._faults.get(operation)
        return scripted.popleft() if scripted else None

    def answer(self, operation: str, query: Query, form: bytes, token: str) -> Answer:
        """Carry one call out."""
        try:
            match operation:
                case "auth":
                    return Answer(302, b"", {"Location": self.consents.consent({k: v[0] for k, v in query.items()})})
                case "token" | "tokeninfo":
                    given = {k: v[0] for k, v in parse_qs(form.decode()).items()}
                    return _json(self.consents.token(given) if operation == "token" else self.consents.told_of(given))
                case "revoke":
                    self.consents.revoke(parse_qs(form.decode())["token"][0])
                    return _json({})
                case _:
                    self._allow(operation, token)
                    return _json(self._api(operation, query, form))
        except OAuthRefused as exc:
            status = 401 if exc.error == "invalid_client" else 400
            return Answer(status, json.dumps({"error": exc.error, "error_description": str(exc)}).encode())
        except Refused as exc:
            return refusal(exc.status, exc.reason, str(exc))

    def _allow(self, operation: str, token: str) -> None:
        scopes = self.consents.scopes_of(token)
        if scopes is None:
            raise Refused(401, "authError", "Request had invalid authentication credentials.")
        if not scopes & (_SEND if operation == "messages.send" else _READ):
            raise Refused(403, "insufficientPermissions", "Request had insufficient authentication scopes.")

    def _api(self, operation: str, query: Query, body: bytes) -> dict[str, Any]:
        match operation.split("/"):
            case ["profile"]:
                return {
                    "emailAddress": self.box.address,
                    "messagesTotal": len(self.box.mails),
                    "historyId": str(self.box.history_id),
                }
            case ["sendAs"]:
                own = {"sendAsEmail": self.box.address, "isPrimary": True}
                return {
                    "sendAs": [own, *({"sendAsEmail": a, "verificationStatus": s} for a, s in self.aliases.items())]
                }
            case ["history.list"]:
                return self._history(query)
            case ["messages.list"]:
                return self._list(query)
            case ["messages.get", message_id]:
                return _shown(self._mail(message_id), _one(query, "format", "full"))
            case ["messages.send"]:
                return self._send(json.loads(body))
            case _:
                raise Refused(404, "notFound", "Requested entity was not found.")

    def _history(self, query: Query) -> dict[str, Any]:
        records = self.box.changes(int(_one(query, "startHistoryId", "0")), query.get("historyTypes", ()))
        page = _page("history", records, query)
        return {**page, "historyId": str(self.box.history_id)}

    def _list(self, query: Query) -> dict[str, Any]:
        spam = _one(query, "includeSpamTrash", "false") == "true"
        found = self.box.found(_one(query, "q", ""), query.get("labelIds", ()), with_spam_and_trash=spam)
        return {**_page("messages", [mail.names for mail in found], query), "resultSizeEstimate": len(found)}

    def _mail(self, message_id: str) -> StoredMail:
        if message_id not in self.box.mails:
            raise Refused(404, "notFound", "Requested entity was not found.")
        return self.box.mails[message_id]

    def _send(self, message: Mapping[str, str]) -> dict[str, Any]:
        try:
            raw = urlsafe_b64decode(message.get("raw", ""))
        except NoBase64 as exc:
            raise Refused(400, "invalidArgument", "Invalid value at 'message.raw' (TYPE_BYTES)") from exc
        sent, recipients = self.box.send(raw, message.get("threadId"))
        if self._deliver is not None:
            for recipient in recipients:
                try:
                    self._deliver(self.box.address, recipient, sent.raw)
                except smtplib.SMTPException as exc:
                    self.box.deliver(bounce(self.box.address, sent, str(exc)))
        return {**sent.names, "labelIds": sorted(sent.labels)}


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, gmail: GmailServer, tls: ssl.SSLContext | None) -> None:
        self.gmail, self.tls = gmail, tls
        super().__init__(("127.0.0.1", 0), _Call)

    def finish_request(self, request: Any, client_address: Any) -> None:
        with suppress(OSError):  # a client may hang up at any time
            if self.tls is None:
                super().finish_request(request, client_address)
                return
            # Here, in the thread of the call, because a client may be slow to greet.
            with self.tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as secure:
                secure.do_handshake()
                super().finish_request(secure, client_address)


class _Call(BaseHTTPRequestHandler):
    server: _Http
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60

    def do_GET(self) -> None:
        self._call("GET")

    def do_POST(self) -> None:
        self._call("POST")

    def _call(self, method: str) -> None:
        gmail = self.server.gmail
        asked = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        operation = _operation(method, asked.path)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        fault = gmail.fault_of(operation.partition("/")[0])
        answer = None
        if fault is None or fault.acts:
            answer = gmail.answer(operation, parse_qs(asked.query), body, token)
        if fault is None:
            self._say(answer or Answer(500))
        else:
            self._fail(fault)

    def _fail(self, fault: Fault) -> None:
        if fault.answer is not None:
            self._say(fault.answer)
            return
        self.close_connection = True
        match fault.breaks:
            case Break.RESET:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case Break.CUT:
                self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"id":')
            case Break.SILENCE:
                self.server.gmail.ended.wait()
            case Break.NONSENSE:
                self.wfile.write(b"250 this is no HTTP\r\n\r\n")
            case Break.DRIP:
                self._drip()

    def _drip(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        with suppress(OSError):  # the client gives up
            while not self.server.gmail.ended.wait(_DRIP_SECONDS):
                self.wfile.write(b"x")

    def _say(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in (answer.headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        """Print nothing: addresses hold searches and codes."""


def _operation(method: str, path: str) -> str:
    """Name the operation as Google's reference does, with the message's id behind a slash."""
    name = path.removeprefix(_USER)
    if method == "GET" and (shown := re.fullmatch(r"messages/(\w+)", name)):
        return f"messages.get/{shown[1]}"
    return _OPERATIONS.get((method, name), "unknown")


def _page(name: str, items: list[dict[str, Any]], query: Query) -> dict[str, Any]:
    """Cut one page; without any item, Gmail leaves the list out."""
    start = int(_one(query, "pageToken", "0"))
    end = start + min(int(_one(query, "maxResults", "100")), _MOST_RESULTS)
    page: dict[str, Any] = {name: items[start:end]} if items[start:end] else {}
    return {**page, "nextPageToken": str(end)} if end < len(items) else page


def _shown(mail: StoredMail, form: str) -> dict[str, Any]:
    match form:
        case "minimal":
            return mail.outline
        case "raw":
            return {**mail.outline, "raw": urlsafe_b64encode(mail.raw).decode()}
        case "metadata":
            headers = [{"name": n, "value": " ".join(str(v).split())} for n, v in mail.headers.items()]
            return {**mail.outline, "payload": {"headers": headers}}
        case _:
            raise Refused(400, "invalidArgument", f"this stand-in cannot show the format {form!r}")


def _one(query: Query, name: str, default: str) -> str:
    return query.get(name, [default])[0]


def _json(value: Mapping[str, Any]) -> Answer:
    return Answer(HTTPStatus.OK, json.dumps(value).encode())
