"""The proxy between a client and a server breaks exactly what it is told to break."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from orchestrator.testing.faults import FaultProxy


class Echo(socketserver.StreamRequestHandler):
    """Answers each line with itself, and remembers it."""

    seen: list[bytes]

    def handle(self) -> None:
        for line in self.rfile:
            self.seen.append(line)
            self.wfile.write(line)


@pytest.fixture
def seen() -> list[bytes]:
    return []


@pytest.fixture
def proxy(seen: list[bytes]) -> Iterator[FaultProxy]:
    handler = type("EchoTo", (Echo,), {"seen": seen})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with FaultProxy("127.0.0.1", server.server_address[1]) as running:
            yield running
        server.shutdown()
        thread.join()


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as connected:
        yield connected


def answer(client: socket.socket, question: bytes) -> bytes:
    client.sendall(question)
    return rest(client, len(question))


def rest(client: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size and (chunk := client.recv(size - len(received))):
        received += chunk
    return received


def test_without_a_fault_everything_passes(proxy: FaultProxy, client: socket.socket) -> None:
    large = b"x" * 1_000_000 + b"\n"
    sender = threading.Thread(target=client.sendall, args=(large,))
    sender.start()
    assert rest(client, len(large)) == large
    sender.join()
    assert (proxy.pending, proxy.connections) == (False, 1)


def test_an_answer_is_replaced_after_the_server_acted(
    proxy: FaultProxy, client: socket.socket, seen: list[bytes]
) -> None:
    proxy.replace_answer(after=b"pay", by=b"<html>")
    assert answer(client, b"hello\n") == b"hello\n"
    assert answer(client, b"pay now\n") == b"<html>"
    assert client.recv(1) == b""
    assert (seen, proxy.pending) == ([b"hello\n", b"pay now\n"], False)


@pytest.mark.parametrize("passing", [0, 3])
def test_an_answer_is_lost_after_the_server_acted(
    proxy: FaultProxy, client: socket.socket, seen: list[bytes], passing: int
) -> None:
    proxy.lose_answer(after=b"pay", passing=passing)
    assert answer(client, b"hello\n") == b"hello\n"
    assert answer(client, b"pay now\n") == b"pay now\n"[:passing]
    assert (seen, proxy.pending) == ([b"hello\n", b"pay now\n"], False)


def test_a_request_is_lost_before_the_server_acts(proxy: FaultProxy, client: socket.socket, seen: list[bytes]) -> None:
    proxy.lose_request(at=b"pay now\n")
    assert answer(client, b"hello\n") == b"hello\n"
    assert answer(client, b"pay now\n") == b""
    assert (seen, proxy.pending) == ([b"hello\n"], False)


def test_a_request_is_refused_and_the_connection_goes_on(
    proxy: FaultProxy, client: socket.socket, seen: list[bytes]
) -> None:
    proxy.refuse_request(at=b"pay", answer=lambda request: request[:3] + b" no\n")
    client.sendall(b"pay now\n")
    assert rest(client, 7) == b"pay no\n"
    assert answer(client, b"hello\n") == b"hello\n"
    assert (seen, proxy.pending) == ([b"hello\n"], False)


def test_what_is_waited_for_may_come_in_pieces(proxy: FaultProxy, client: socket.socket, seen: list[bytes]) -> None:
    assert answer(client, b"one\n") == b"one\n"
    proxy.lose_answer(after=b"a\nb\n")
    assert answer(client, b"a\n") == b"a\n"
    assert answer(client, b"b\n") == b""
    assert seen == [b"one\n", b"a\n", b"b\n"]


def test_what_was_sent_before_does_not_count(proxy: FaultProxy, client: socket.socket) -> None:
    assert answer(client, b"pay\n") == b"pay\n"
    proxy.lose_answer(after=b"pay\n")
    assert answer(client, b"hello\n") == b"hello\n"
    assert proxy.pending


def test_an_answer_is_held_back_for_ever(proxy: FaultProxy, client: socket.socket, seen: list[bytes]) -> None:
    proxy.hold_answer(after=b"pay")
    client.sendall(b"pay now\n")
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(1)
    assert seen == [b"pay now\n"]


def test_an_answer_comes_byte_by_byte(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.trickle_answer(after=b"pay", pause=0.02)
    began = monotonic()
    assert answer(client, b"pay now\n") == b"pay now\n"
    assert monotonic() - began >= 8 * 0.02


def test_a_fault_strikes_one_connection_once(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.lose_answer(after=b"pay")
    assert answer(client, b"pay\n") == b""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as again:
        assert answer(again, b"pay\n") == b"pay\n"
    assert proxy.connections == 2


def test_a_server_that_is_not_there_hangs_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with FaultProxy("127.0.0.1", port) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as client:
        assert client.recv(1) == b""
