"""An HTTP server on this computer that notes each call and fails on demand: the base of the stand-ins for vendors."""

from __future__ import annotations

import json
import socket
import ssl
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from threading import Event, Lock, Thread
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx

HOST = "127.0.0.1"
_LONGEST_SILENCE = 60.0
_DRIP_SECONDS = 0.02


class Request(NamedTuple):
    """One call."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        """The body, read as a form."""
        return dict(parse_qsl(self.body.decode()))

    @property
    def bearer(self) -> str:
        """The token that the caller shows."""
        return self.headers.get("Authorization", "").removeprefix("Bearer ")


@dataclass(frozen=True)
class Answer:
    """What a call is answered.

    Args:
        status: Of HTTP.
        body: Bytes as they are, anything else as JSON.
        headers: Beside the usual ones, or instead of them.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Break(StrEnum):
    """How a call ends without a proper answer."""

    RESET = auto()
    CLOSE = auto()
    """The connection is closed in order."""
    CUT = auto()
    """The connection is closed in the middle of the answer."""
    SILENCE = auto()
    """Nothing comes, and the connection stays."""
    DRIP = auto()
    """An answer that never ends, byte by byte."""
    GARBAGE = auto()
    """An answer whose body cannot be understood."""
    NONSENSE = auto()
    """Something that is no HTTP."""


@dataclass(frozen=True)
class Fault:
    """What becomes of one call.

    Args:
        acts: Whether it is carried out first.
        answer: What is answered.
        breaks: Without an answer, how the call ends; where there is no body, as of ``HEAD``, the headers fail instead.
    """

    acts: bool = False
    answer: Answer | None = None
    breaks: Break = Break.RESET


class FaultyServer:
    """Listens on a free port while the context lasts; inherit from it and override ``respond``.

    Args:
        tls: The server's certificate.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.calls: list[str] = []
        """The names of the calls that came in, in order."""
        self.faulty = ""
        """Which calls fail, where ``fail_next`` is told no other: those whose name contains this."""
        self.lock = Lock()
        """For what a stand-in may do for one call at a time."""
        self.stopping = Event()
        self._faults: list[tuple[str, Fault | None]] = []
        self._listener = _Listener(self, tls)

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self._listener.tls else 'http'}://{HOST}:{self._listener.server_port}"

    def __enter__(self) -> Self:
        Thread(target=self._listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._listener.shutdown()
        self._listener.server_close()

    def respond(self, request: Request) -> Answer | None:
        """Carry one call out; without an answer, its connection is closed."""
        raise NotImplementedError

    def name_of(self, request: Request) -> str:
        """Name a call, for ``calls`` and for faults."""
        return f"{request.method} {request.path}"

    def refusal(self, status: int, headers: Mapping[str, str]) -> Answer:
        """Write a refusal as this vendor does."""
        return Answer(status, {"error": "as scripted"}, headers)

    def usual_headers(self, status: int) -> Mapping[str, str]:  # noqa: ARG002 - some vendors look at it
        """Return the headers of every answer with a status."""
        return {}

    def fail_next(self, *faults: Fault | None, on: str | None = None) -> None:
        """Script what becomes of the next calls, in order; None lets one succeed.

        Args:
            faults: One for each call.
            on: Only calls whose name contains this: ``POST``, or ``/orders/17``.
        """
        self._faults += [(self.faulty if on is None else on, fault) for fault in faults]

    def take_fault(self, name: str) -> Fault | None:
        """Note a call, and take the fault that was scripted for it."""
        with self.lock:
            self.calls.append(name)
            scripted = next((each for each in self._faults if each[0] in name), None)
            if scripted is None:
                return None
            self._faults.remove(scripted)
            return scripted[1]

    def refuse(self, status: int, *, on: str | None = None, **headers: str) -> None:
        """Let the next call be refused; ``Retry_After="7"`` is the header ``Retry-After``."""
        self.fail_next(Fault(answer=self.refusal(status, _named(headers))), on=on)

    def drop(self) -> None:
        """Let the next call act, and lose its connection before the answer."""
        self.fail_next(Fault(acts=True, breaks=Break.CLOSE))

    def cut(self) -> None:
        """Let the next call act, and lose its connection in the middle of the answer."""
        self.fail_next(Fault(acts=True, breaks=Break.CUT))

    def lose(self) -> None:
        """Lose the next call before it acts, so late that the caller cannot tell."""
        self.fail_next(Fault(breaks=Break.CLOSE))

    def silence(self) -> None:
        """Let the next call act, and never be answered."""
        self.fail_next(Fault(acts=True, breaks=Break.SILENCE))

    def drip(self) -> None:
        """Let the next call act, and be answered byte by byte, for ever."""
        self.fail_next(Fault(acts=True, breaks=Break.DRIP))

    def garbage(self) -> None:
        """Let the next call act, and be answered with what nobody can understand."""
        self.fail_next(Fault(acts=True, breaks=Break.GARBAGE))

    def fail_after_acting(self) -> None:
        """Let the next call act, and be answered with 503 and a time to wait."""
        self.fail_next(Fault(acts=True, answer=self.refusal(503, {"Retry-After": "7"})))

    def nonsense(self) -> None:
        """Let the next call act, and be answered with what is no HTTP: where the status alone is read."""
        self.fail_next(Fault(acts=True, breaks=Break.NONSENSE))


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, stub: FaultyServer, tls: ssl.SSLContext | None) -> None:
        self.stub, self.tls = stub, tls
        super().__init__((HOST, 0), _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        with suppress(OSError):  # a client may hang up at any time
            if self.tls is None:
                super().finish_request(request, client_address)
                return
            # Here, in the thread of the call, because a client may be slow to greet.
            with self.tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as secure:
                secure.do_handshake()
                super().finish_request(secure, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer takes 40 ms
    timeout = 60
    server: _Listener

    def do_GET(self) -> None:
        asked, stub = urlsplit(self.path), self.server.stub
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        query = parse_qs(asked.query, keep_blank_values=True)
        request = Request(self.command, asked.path, query, httpx.Headers(self.headers.items()), body)
        fault = stub.take_fault(stub.name_of(request))
        answer = stub.respond(request) if fault is None or fault.acts else Answer()
        fault = fault or Fault(answer=answer, breaks=Break.CLOSE)
        if fault.answer is not None:
            self._send(fault.answer)
        else:
            self._break(fault.breaks, answer or Answer())

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - so does http.server name them

    def _break(self, how: Break, answer: Answer) -> None:
        self.close_connection = True
        match how:
            case Break.RESET:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case Break.CUT if self.command != "HEAD":
                self._send(answer, missing=1)
            case Break.GARBAGE if self.command != "HEAD":
                self._send(Answer(answer.status, b"<html>", answer.headers))
            case Break.GARBAGE | Break.NONSENSE:
                self.wfile.write(b"250 this is no HTTP\r\n\r\n")
            case Break.SILENCE:
                self.server.stub.stopping.wait(_LONGEST_SILENCE)
            case Break.DRIP:
                self._drip()

    def _drip(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n"
        for byte in chain(head if self.command == "HEAD" else head + b"\r\n", repeat(ord(" "))):
            if self.server.stub.stopping.wait(_DRIP_SECONDS):
                return
            self.wfile.write(bytes((byte,)))

    def _send(self, answer: Answer, *, missing: int = 0) -> None:
        content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        usual = {"Content-Type": "application/json", **self.server.stub.usual_headers(answer.status)}
        self.send_response(answer.status)
        for name, value in {**usual, **answer.headers, "Content-Length": str(len(content) + missing)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":  # RFC 9110 9.3.2: the headers are those of GET, and there is no body
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Print nothing: addresses hold searches and codes."""
