"""Connections that idle, stall or never end: they cost the gateway nothing but themselves."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import anyio.lowlevel
import httpx
import pytest
import uvicorn

from orchestrator.bootstrap import Application
from orchestrator.errors import ConfigurationError
from orchestrator.gateway.connections import ConnectionLimits, GatewayProtocol
from orchestrator.gateway.serving import listen
from orchestrator.settings import GatewaySettings
from tests.support.gateways import PATIENCE_SECONDS, Process, received, serve, wait_until
from tests.support.webhooks import HOOKS, configured

HALF = b"POST /hooks/shop HTTP/1.1\r\nHost: x\r\n"
WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def connected(port: int, sent: bytes = HALF) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
    connection.sendall(sent)
    return connection


def is_closed(connection: socket.socket) -> bool:
    """Send one more byte of a header, and tell whether the other side has hung up."""
    connection.settimeout(0.05)
    try:
        connection.sendall(b"x")
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Application]:
    app = configured(tmp_path, text="gateway = {in_flight = 4, read_seconds = 1}\n" + HOOKS)
    yield app
    app.record.store.close()


@contextmanager
def half_open(port: int, number: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(connected(port)) for _ in range(number)]


def live(port: int) -> int:
    return httpx.get(f"http://127.0.0.1:{port}/live", timeout=PATIENCE_SECONDS).status_code


def test_half_sent_headers_take_no_slot(app: Application) -> None:
    with serve(app) as served, half_open(served.port, 100):
        assert served.shop(1).status_code == 202
        assert [live(served.port), live(served.status_port)] == [200, 200]


def test_headers_that_come_byte_by_byte_have_a_deadline(app: Application) -> None:
    with serve(app) as served, half_open(served.port, 3) as slow:
        wait_until(lambda: all(is_closed(connection) for connection in slow))
        assert served.shop(1).status_code == 202


def test_so_have_those_of_a_second_request(app: Application) -> None:
    with serve(app) as served, connected(served.port, b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n") as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        wait_until(lambda: is_closed(connection))


# --- the protocol, with limits of its own ------------------------------------------------------------------------


@contextmanager
def served_with(limits: ConnectionLimits, answer: Any) -> Iterator[int]:
    """Serve an ASGI application with these limits, and return its port."""
    protocol: Any = partial(GatewayProtocol, limits=limits)
    server = uvicorn.Server(uvicorn.Config(answer, http=protocol, ws="none", log_config=None, lifespan="off"))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)


async def answer(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def never_answer(_scope: Any, receive: Any, _send: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer_at_length(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(1000):  # more than the system keeps for a client that does not read
        await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})


def limits(**changed: Any) -> ConnectionLimits:
    return ConnectionLimits(**{"maximum": 100, "header_seconds": 60, "request_seconds": 60, **changed})


def test_a_request_that_is_not_answered_ends() -> None:
    with served_with(limits(request_seconds=0.2), never_answer) as port:
        assert received(connected(port, WHOLE)) == b""


def test_an_answer_that_is_not_read_ends() -> None:
    small = limits(request_seconds=0.2)
    with served_with(small, answer_at_length) as port, connected(port, WHOLE) as unread:
        assert unread.recv(1)
        wait_until(lambda: is_closed(unread))


def test_requests_that_are_sent_at_once_are_answered_each_with_a_deadline_of_its_own() -> None:
    shared = limits()
    with served_with(shared, answer) as port, connected(port, 5 * WHOLE) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert received(connection).count(b"\r\n\r\nok") == 5
    assert shared.idle == {}


def test_one_connection_too_many_closes_the_oldest_idle_one_and_no_request() -> None:
    shared = limits(maximum=3)
    release = Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            while not release.is_set():
                await anyio.lowlevel.checkpoint()
        await answer(scope, receive, send)

    with served_with(shared, slow) as port:
        busy = connected(port, b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        oldest, newer = connected(port), connected(port)
        wait_until(lambda: len(shared.idle) == 2)
        one_more = connected(port, WHOLE)
        assert one_more.recv(1)
        hung_up = [is_closed(connection) for connection in (oldest, newer)]
        release.set()
        assert received(busy).endswith(b"ok")
        assert hung_up == [True, False]
        for connection in (oldest, newer, one_more):
            connection.close()


# --- at the limit of open files ----------------------------------------------------------------------------------


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path, "gateway.read_seconds = 1\n")
    yield process
    process.client.close()
    if process.running is not None:
        process.running.kill()
        process.running.wait(PATIENCE_SECONDS)


def files_of(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def test_a_flood_stays_below_the_limit_of_open_files_and_everybody_else_is_served(process: Process) -> None:
    process.start(open_files=800)
    with half_open(process.port, 850):
        assert [live(process.port), live(process.status_port)] == [200, 200]
        assert [process.post(number) is not None for number in range(5)] == [True] * 5
    assert "out of system resource" not in (process.folder / "log").read_text()


def test_at_the_limit_of_open_files_the_log_stays_short_and_the_gateway_comes_back(process: Process) -> None:
    pid = process.start().pid
    few = files_of(pid) + 20  # so that the gateway, which was allowed more, cannot keep below it
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, few))
    log = process.folder / "log"
    with half_open(process.port, 60):
        wait_until(lambda: "out of system resource" in log.read_text())
        wait_until(lambda: files_of(pid) < few - 10)
    wait_until(lambda: process.post(1) is not None)
    assert log.read_text().count("out of system resource") == 1


def test_a_taken_port_is_told_by_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"\[gateway\] port: .* 127.0.0.1, port {port} \(Address"):
            listen(GatewaySettings(port=port, status_port=0))
