"""A system on this computer that answers over HTTP as fakes do, and fails on demand.

A connector that is being written talks to it until its author has read the vendor's documentation:

- a query is ``GET /<operation>`` with its arguments as JSON values in the query string,
- an effect is ``POST /<operation>`` with its arguments as a JSON object,
- ``GET /look-for`` with ``operation`` and ``effect_id`` tells what became of an effect: its receipt, or null,
- ``GET /check`` tells what there is.

All are answered with 200 and the result as JSON; 410 says that a thing is not there, 422 that a request is refused.
A fake that was told to fail with ``Unavailable`` loses the connection. Past the network, a test sees the fake itself.

Once the connector asks as the vendor wants to be asked, answer so: inherit from ``StubServer`` and override ``answer``
(and ``admits``, if the credential is shown otherwise).
"""

from __future__ import annotations

import json
import secrets
import socket
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, Self, get_type_hints
from urllib.parse import parse_qs, urlsplit

from pydantic import TypeAdapter

from orchestrator.capabilities import Receipt, operations_of
from orchestrator.errors import AccessDenied, ConnectorError, NotFound, RateLimited, Unavailable
from orchestrator.plugins.effect_ids import EFFECT_ID
from orchestrator.plugins.host import installed_capabilities

HOST = "127.0.0.1"
_LONGEST_SILENCE = 60.0
_STATUS: dict[type[ConnectorError], int] = {NotFound: 410, RateLimited: 429, AccessDenied: 403}
"""Of what a fake raises; all else is a refusal."""


@dataclass(frozen=True)
class Fault:
    """What befalls one call.

    Args:
        status: It is refused with this status, and nothing happens; 0 if it is not refused.
        headers: Of the answer that refuses or fails.
        garbage: It happens, and the answer cannot be understood.
        nonsense: It happens, and what comes back is no HTTP.
        drop: It happens, and the connection is lost before the answer.
        cut: It happens, and the connection is lost in the middle of the answer.
        lost: Nothing happens, and the connection is lost.
        silent: It happens, and is never answered.
        drip: It happens, and the answer comes byte by byte, for ever.
        failed: It happens, and is answered with this status and the headers, as if it had not; 0 if it is not.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    garbage: bool = False
    nonsense: bool = False
    drop: bool = False
    cut: bool = False
    lost: bool = False
    silent: bool = False
    drip: bool = False
    failed: int = 0


class StubServer:
    """Serves fakes over HTTP while the context lasts; it can be handed to ``FaultsContract`` as ``faults``.

    Args:
        fakes: What answers, for example ``FakeFiles(...)``; each gives other operations.
    """

    def __init__(self, *fakes: Any) -> None:
        self.credential = secrets.token_hex(16)
        """What callers must bring: ``Authorization: Bearer <credential>``."""
        self.faults: deque[Fault] = deque()
        """What befalls the next calls, one after the other."""
        self.fakes = fakes
        self._operations = {name: each for fake in fakes for name, each in _operations_of(fake).items()}
        self._stopping = Event()
        self._server = _Listener(self)

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"http://{HOST}:{self._server.server_port}"

    def revoke(self) -> None:
        """Let the credential end, as a vendor may at any time."""
        self.credential = secrets.token_hex(16)

    def refuse(self, status: int, **headers: str) -> None:
        """Let the next call be refused; ``Retry_After="7"`` is the header ``Retry-After``."""
        self.faults.append(Fault(status, {name.replace("_", "-"): value for name, value in headers.items()}))

    def drop(self) -> None:
        """Let the next call act, and lose its connection before the answer."""
        self.faults.append(Fault(drop=True))

    def cut(self) -> None:
        """Let the next call act, and lose its connection in the middle of the answer."""
        self.faults.append(Fault(cut=True))

    def lose(self) -> None:
        """Lose the next call before it acts, so late that the caller cannot tell."""
        self.faults.append(Fault(lost=True))

    def silence(self) -> None:
        """Let the next call act, and never be answered."""
        self.faults.append(Fault(silent=True))

    def drip(self) -> None:
        """Let the next call act, and be answered byte by byte, for ever."""
        self.faults.append(Fault(drip=True))

    def garbage(self) -> None:
        """Let the next call act, and be answered with what nobody can understand."""
        self.faults.append(Fault(garbage=True))

    def fail_after_acting(self) -> None:
        """Let the next call act, and be answered with 503 and a time to wait."""
        self.faults.append(Fault(failed=503, headers={"Retry-After": "7"}))

    def nonsense(self) -> None:
        """Let the next call act, and be answered with what is no HTTP: where the status alone is read."""
        self.faults.append(Fault(nonsense=True))

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def keep_waiting(self, seconds: float = _LONGEST_SILENCE) -> bool:
        """Wait, but no longer than this stands; return whether it still does."""
        return not self._stopping.wait(seconds)

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Tell whether a caller has shown the credential."""
        return headers.get("Authorization") == f"Bearer {self.credential}"

    def answer(self, method: str, path: str, given: Mapping[str, Any]) -> tuple[int, Any]:  # noqa: ARG002 - of no matter here
        """Answer one call.

        Args:
            method: ``GET``, ``HEAD`` (of whose answer the client gets no body) or another.
            path: Without the query string.
            given: What stands in the query string, or in the body, as JSON values; what is no JSON is text. A key that
                the query string repeats has the list of its values.

        Returns:
            The status, and what is answered as JSON.

        Raises:
            ConnectorError: A fake failed. ``Unavailable`` loses the connection; others become their status.
        """
        return 200, self._answered(path.removeprefix("/"), given)

    def reply(self, method: str, path: str, given: Mapping[str, Any]) -> tuple[int, bytes]:
        """Answer one call, with the status of whatever failed."""
        try:
            status, answered = self.answer(method, path, given)
            return status, json.dumps(answered).encode()
        except ConnectorError as exc:
            if type(exc) is Unavailable:
                raise
            return _STATUS.get(type(exc), 422), json.dumps({"error": str(exc)}).encode()
        except (LookupError, TypeError, ValueError) as exc:
            return 400, json.dumps({"error": type(exc).__name__}).encode()

    def _answered(self, operation: str, given: Mapping[str, Any]) -> Any:
        if operation == "check":
            return {"seen": "; ".join(fake.check() for fake in self.fakes)}
        if operation == "look-for":
            probe = self._operations[given["operation"]].fake.settlements[given["operation"]].probe
            return TypeAdapter(Receipt | None).dump_python(probe(given["effect_id"]), mode="json")
        return self._operations[operation](given)


@dataclass(frozen=True)
class _Operation:
    """One operation of a fake, and how its arguments and its answer are written."""

    fake: Any
    name: str
    parameters: Mapping[str, TypeAdapter[Any]]
    result: TypeAdapter[Any]

    def __call__(self, given: Mapping[str, Any]) -> Any:
        arguments = {name: self.parameters[name].validate_json(json.dumps(value)) for name, value in given.items()}
        return self.result.dump_python(getattr(self.fake, self.name)(**arguments), mode="json")


def _operations_of(fake: Any) -> dict[str, _Operation]:
    """Return the operations of every capability that the fake has whole."""
    protocols = [each.protocol for each in installed_capabilities().values()]
    return {
        name: _operation(fake, protocol, name)
        for protocol in protocols
        if all(hasattr(fake, name) for name in operations_of(protocol))
        for name in operations_of(protocol)
    }


def _operation(fake: Any, capability: type, name: str) -> _Operation:
    hints = get_type_hints(vars(capability)[name], include_extras=True) | {EFFECT_ID: str | None}
    result = TypeAdapter(hints.pop("return"))
    return _Operation(fake, name, {each: TypeAdapter(hint) for each, hint in hints.items()}, result)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, standin: StubServer) -> None:
        self.standin = standin
        super().__init__((HOST, 0), _Handler)

    def handle_error(self, *_: Any) -> None:
        """Clients leave in the middle of a call: that is what a test of time-outs wants."""


def _befalling_no_body(fault: Fault) -> Fault:
    """Return what befalls a whole answer in place of its body, since it has none."""
    return replace(
        fault,
        drop=fault.drop or fault.cut,
        silent=fault.silent or fault.drip,
        nonsense=fault.nonsense or fault.garbage,
        cut=False,
        drip=False,
        garbage=False,
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer takes 40 ms
    server: _Listener

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        given = {name: [_value(each) for each in values] for name, values in query.items()}
        self._serve({name: values if len(values) > 1 else values[0] for name, values in given.items()})

    do_HEAD = do_GET  # noqa: N815 - so does http.server name them

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))) or b"{}"))

    do_PUT = do_PATCH = do_DELETE = do_POST  # noqa: N815 - so does http.server name them

    def _serve(self, given: Mapping[str, Any]) -> None:
        standin = self.server.standin
        fault = standin.faults.popleft() if standin.faults else Fault()
        if not standin.admits(dict(self.headers)):
            self._reply(401, b'{"error": "unauthorized"}')
        elif fault.status:
            self._reply(fault.status, b'{"error": "as scripted"}', fault.headers)
        elif fault.lost:
            self._lose()
        else:
            self._act(fault, given)

    def _act(self, fault: Fault, given: Mapping[str, Any]) -> None:
        try:
            answer = self.server.standin.reply(self.command, urlsplit(self.path).path, given)
        except Unavailable:
            self._lose()
        else:
            self._deliver(fault, *answer)

    def _lose(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _deliver(self, fault: Fault, status: int, document: bytes) -> None:
        if self.command == "HEAD":
            fault = _befalling_no_body(fault)
        if fault.drop:
            self._lose()
        elif fault.cut:
            self._start(status, len(document) + 1)
            self.wfile.write(document)
            self._lose()
        elif fault.silent:
            self.server.standin.keep_waiting()
        elif fault.drip:
            self._drip()
        elif fault.nonsense:
            self.close_connection = True
            self.wfile.write(b"this is no HTTP\r\n\r\n")
        elif fault.failed:
            self._reply(fault.failed, b'{"error": "as scripted"}', fault.headers)
        else:
            self._reply(status, b"<html>" if fault.garbage else document)

    def _drip(self) -> None:
        self._start(200, 1_000_000)
        while self.server.standin.keep_waiting(0.02):
            self.wfile.write(b" ")

    def _reply(self, status: int, document: bytes, headers: Mapping[str, str] | None = None) -> None:
        self._start(status, len(document), headers)
        if self.command != "HEAD":  # RFC 9110 9.3.2: the headers of GET, and no content
            self.wfile.write(document)

    def _start(self, status: int, length: int, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Write no line for each call."""
