"""A Keap account on a free port of this machine."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx

from orchestrator.sandbox.keap.crm import Crm, Refused
from orchestrator.sandbox.keap.gate import Gate
from orchestrator.sandbox.keap.hooks import HookService

HOST = "127.0.0.1"


class Request(NamedTuple):
    """One call, as far as the account looks at it."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """Read the body."""
        try:
            read = json.loads(self.body)
        except ValueError:
            raise Refused(400, "the body is no JSON") from None
        return read if isinstance(read, dict) else {}


class Answer(NamedTuple):
    """What a call is answered."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = {}


@dataclass(frozen=True)
class _Failure:
    status: int
    headers: Mapping[str, str]
    body: object
    on: str


class KeapServer:
    """A Keap account that keeps what it is told, while the context lasts.

    Args:
        clock: Tells the account's time.
    """

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.gate = Gate(clock=clock)
        self.hooks = HookService(clock=clock)
        self.crm = Crm(clock=clock, emit=self.hooks.happened)
        self.calls: list[tuple[str, str]] = []
        """Method and path of each call of the account's interface that came in so far."""
        self._failures: deque[_Failure] = deque()
        self._refresh_failures: deque[Answer] = deque()
        self._changes_until_loss = 0
        self._answered_instead: Answer | None = None
        self._lock = Lock()
        self._server = _Http(self)

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"http://{HOST}:{self._server.server_port}"

    @property
    def base_url(self) -> str:
        """What the setting ``base_url`` of a connection must be."""
        return f"{self.url}/crm"

    @property
    def token_url(self) -> str:
        """What the setting ``token_url`` must be."""
        return f"{self.url}/token"

    @property
    def authorize_url(self) -> str:
        """What the setting ``authorize_url`` must be."""
        return f"{self.url}/app/oauth/authorize"

    def __enter__(self) -> Self:
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,), name="sandbox-keap", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def fail_next(self, status: int, *, on: str = "", times: int = 1, body: object = None, **headers: str) -> None:
        """Answer the next calls so, and do nothing.

        Args:
            status: The HTTP status.
            on: Only calls whose method and path hold this: ``POST``, or ``/orders/17``.
            times: So many of them.
            body: The answer; bytes as they are, anything else as JSON.
            headers: Its headers, with underscores.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._failures.extend([_Failure(status, named, body, on)] * times)

    def fail_next_refresh(self, status: int, body: object = None) -> None:
        """Answer the next call of the token endpoint so, and do nothing."""
        self._refresh_failures.append(Answer(status, body))

    def lose_answer_of_change(self, number: int = 1) -> None:
        """Let that many changes happen, and then drop the connection of the last of them."""
        self._changes_until_loss, self._answered_instead = number, None

    def fail_answer_of_change(self, status: int, *, number: int = 1, **headers: str) -> None:
        """Let that many changes happen, and then answer the last of them as if it had failed."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._changes_until_loss, self._answered_instead = number, Answer(status, None, named)

    def answer(self, request: Request) -> Answer | None:
        """Deal with one call.

        Returns:
            The answer; None if the connection is to be dropped.
        """
        try:
            answer = self._answer(request)
        except Refused as refused:
            answer = Answer(refused.status, _error(request.path, refused))
        if not request.path.startswith("/crm/"):
            return answer
        answer = answer._replace(headers={**self.gate.told(answer.status), **answer.headers})
        return self._answered_instead if self._is_lost(request, answer) else answer

    def _is_lost(self, request: Request, answer: Answer) -> bool:
        if request.method == "GET" or answer.status >= 400:  # noqa: PLR2004 - it has not acted
            return False
        self._changes_until_loss -= 1
        return self._changes_until_loss == 0

    def _answer(self, request: Request) -> Answer:
        if request.path == "/token":
            if self._refresh_failures:
                return self._refresh_failures.popleft()
            with self._lock:
                return Answer(200, self.gate.token(request.headers, dict(parse_qsl(request.body.decode()))))
        if request.path == "/app/oauth/authorize":
            back = {"code": self.gate.grant(request.query), "state": request.query.get("state", "")}
            return Answer(302, headers={"Location": f"{request.query['redirect_uri']}?{urlencode(back)}"})
        self.calls.append((request.method, request.path.removeprefix("/crm")))
        if self._failures and self._failures[0].on in f"{request.method} {request.path}":
            failure = self._failures.popleft()
            return Answer(failure.status, failure.body, failure.headers)
        with self._lock:
            self.gate.admit(request.headers)
        return self._route(request)

    def _route(self, request: Request) -> Answer:
        for method, pattern, act in _ROUTES:
            if method == request.method and (found := re.fullmatch(pattern, request.path)):
                if "/hooks" in request.path:  # may call back while it is dealt with
                    return act(self, request, *found.groups())
                with self._lock:
                    return act(self, request, *found.groups())
        raise Refused(404, "there is no such resource")


_Act = Callable[..., Answer]
_V1, _V2, _ID = "/crm/rest/v1", "/crm/rest/v2", "([^/:]+)"
_ROUTES: tuple[tuple[str, str, _Act], ...] = (
    ("GET", f"{_V2}/contacts", lambda keap, call: Answer(200, keap.crm.list_contacts(call.query))),
    (
        "GET",
        f"{_V2}/contacts/{_ID}/tags",
        lambda keap, call, of: Answer(200, keap.crm.list_contact_tags(of, call.query)),
    ),
    ("GET", f"{_V2}/contacts/{_ID}/notes", lambda keap, call, of: Answer(200, keap.crm.list_notes(of, call.query))),
    ("POST", f"{_V2}/contacts/{_ID}/notes", lambda keap, call, of: Answer(201, keap.crm.create_note(of, call.json()))),
    ("GET", f"{_V2}/orders", lambda keap, call: Answer(200, keap.crm.list_orders(call.query))),
    ("GET", f"{_V2}/orders/{_ID}", lambda keap, _call, of: Answer(200, keap.crm.get_order(of))),
    ("GET", f"{_V2}/tags", lambda keap, call: Answer(200, keap.crm.list_tags(call.query))),
    ("POST", f"{_V2}/tags", lambda keap, call: Answer(201, keap.crm.create_tag(call.json()))),
    (
        "POST",
        f"{_V2}/tags/{_ID}/contacts:applyTags",
        lambda keap, call, of: Answer(200, keap.crm.apply_tag(of, call.json())),
    ),
    ("GET", f"{_V1}/hooks", lambda keap, _call: Answer(200, keap.hooks.listed())),
    ("POST", f"{_V1}/hooks", lambda keap, call: Answer(201, keap.hooks.create(call.json()))),
    ("GET", f"{_V1}/hooks/{_ID}", lambda keap, _call, of: Answer(200, keap.hooks.one(of))),
    ("POST", f"{_V1}/hooks/{_ID}/verify", lambda keap, _call, of: Answer(200, keap.hooks.verify(of))),
)


def _error(path: str, refused: Refused) -> dict[str, Any]:
    if path == "/token":  # RFC 6749 5.2
        return {"error": refused.message}
    return {"code": refused.status, "message": refused.message, "status": "refused", "details": []}


def _query(text: str) -> dict[str, str]:
    """Read a query; what comes several times is a list, as one with commas is."""
    query: dict[str, str] = {}
    for name, value in parse_qsl(text):
        query[name] = f"{query[name]},{value}" if name in query else value
    return query


class _Http(ThreadingHTTPServer):
    """The server's socket; each connection has a thread of its own."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, keap: KeapServer) -> None:
        super().__init__((HOST, 0), _Conversation)
        self.keap = keap


class _Conversation(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    server: _Http

    def handle(self) -> None:
        with suppress(OSError):  # the client has gone
            super().handle()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        request = Request(self.command, url.path, _query(url.query), httpx.Headers(self.headers.items()), body)
        answer = self.server.keap.answer(request)
        if answer is None:
            self.close_connection = True
            return
        self._send(answer)

    do_POST = do_GET  # noqa: N815 - http.server finds it by this name

    def _send(self, answer: Answer) -> None:
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        # Headers and body in one packet: apart, the second would wait for the acknowledgement of the first.
        self._headers_buffer.extend((b"\r\n", body))  # type: ignore[attr-defined]
        self.flush_headers()

    def log_message(self, *_arguments: object) -> None:
        """Stay silent: the path of a call may hold an address."""
