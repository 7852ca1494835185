"""What can go wrong over HTTP, told by what happens next; each kind against a real server or a real socket."""

from __future__ import annotations

import inspect
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from orchestrator.errors import AccessDenied, ConnectorError, NotFound, RateLimited, Rejected, Unavailable
from orchestrator.toolkit.deadline import call_limited
from orchestrator.toolkit.http import HttpSettings, HttpSystem, failure
from tests.support.certificates import authority
from tests.support.slow_reader import LARGE, slow_reader

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


def replying(status: int, content: bytes = b"", **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler, _body: bytes) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


@contextmanager
def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if self.raw_requestline and self.parse_request():
                answer(self, self.rfile.read(int(self.headers.get("Content-Length", "0"))))
            else:
                self.close_connection = True

        def log_message(self, *_: Any) -> None: ...

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Clients leave in the middle: that is what is tested."""

    server = Quiet(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def system(url: str, **more: Any) -> HttpSystem:
    return HttpSystem("Acme", HttpSettings(base_url=url, **more), lambda: {"Authorization": "Bearer s3cret"})


def failed(call: Callable[[], object]) -> tuple[type[ConnectorError], bool]:
    with pytest.raises(ConnectorError) as caught:
        call()
    assert "s3cret" not in str(caught.value)
    return type(caught.value), caught.value.no_effect


@pytest.mark.parametrize(
    ("status", "reading", "writing"),
    [
        (401, (AccessDenied, True), (AccessDenied, True)),
        (402, (AccessDenied, True), (AccessDenied, True)),
        (403, (AccessDenied, True), (AccessDenied, True)),
        (404, (NotFound, True), (NotFound, True)),
        (410, (NotFound, True), (NotFound, True)),
        (408, (Unavailable, True), (Unavailable, False)),
        (429, (RateLimited, True), (RateLimited, True)),
        (500, (Unavailable, True), (Unavailable, False)),
        (501, (Rejected, True), (Rejected, False)),
        (503, (Unavailable, True), (Unavailable, False)),
        (302, (AccessDenied, True), (AccessDenied, False)),
        (307, (AccessDenied, True), (AccessDenied, False)),
        (400, (Rejected, True), (Rejected, True)),
        (409, (Rejected, True), (Rejected, True)),
    ],
)
def test_a_refusal_is_told_by_its_status(
    status: int, reading: tuple[type[ConnectorError], bool], writing: tuple[type[ConnectorError], bool]
) -> None:
    with serving(replying(status)) as url:
        assert failed(lambda: system(url).read("/x", about_one=True)) == reading
        assert failed(lambda: system(url).change("POST", "/x", {}, about_one=True)) == writing


def test_a_change_that_is_answered_by_a_failure_and_a_wait_is_in_doubt_and_waited_for() -> None:
    with serving(replying(503, Retry_After="7")) as url:
        with pytest.raises(RateLimited) as caught:
            system(url).change("POST", "/x", {})
        assert (caught.value.retry_after, caught.value.no_effect) == (timedelta(seconds=7), False)
        assert failed(lambda: system(url).read("/x")) == (RateLimited, True)


def test_what_the_vendor_documents_as_not_done_has_no_effect() -> None:
    with serving(replying(503, Retry_After="7")) as url:
        assert failed(lambda: system(url).change("POST", "/x", {}, not_done={503})) == (RateLimited, True)
        assert failed(lambda: system(url).change("POST", "/x", {}, not_done={500})) == (RateLimited, False)


def test_an_address_that_is_not_there_is_a_wrong_setting() -> None:
    with serving(replying(404)) as url:
        assert failed(lambda: system(url).read("/list")) == (AccessDenied, True)


@pytest.mark.parametrize(
    ("status", "header", "wait"),
    [
        (429, {"Retry_After": "7"}, timedelta(seconds=7)),
        (503, {"Retry_After": "7"}, timedelta(seconds=7)),
        (429, {"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT"}, timedelta(0)),
        (429, {"Retry_After": "99999999999999"}, timedelta(days=7)),
        (429, {"Retry_After": "soon"}, None),
        (429, {}, None),
    ],
)
def test_the_wait_that_is_asked_for_is_handed_on(status: int, header: dict[str, str], wait: timedelta | None) -> None:
    with serving(replying(status, **header)) as url, pytest.raises(RateLimited) as caught:
        system(url).read("/x")
    assert caught.value.retry_after == wait


def test_what_is_sent_and_answered_is_json_and_carries_the_credential() -> None:
    seen: list[tuple[str, str, bytes]] = []

    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        seen.append((handler.path, handler.headers["Authorization"], body))
        replying(200, b'{"ok": true}')(handler, body)

    with serving(answer) as url:
        assert system(f"{url}/base/").read("/x", query={"a": "b c"}) == {"ok": True}
        assert system(url).change("PUT", "/y", {"k": "\u00fc"}, headers={"Idempotency-Key": "f-1"}) == {"ok": True}
    assert seen[0] == ("/base/x?a=b+c", "Bearer s3cret", b"")
    assert json.loads(seen[1][2]) == {"k": "\u00fc"}


def test_an_empty_answer_is_none() -> None:
    with serving(replying(204)) as url:
        assert system(url).change("POST", "/x") is None


def test_an_answer_that_is_no_json_is_a_doubt_once_something_was_changed() -> None:
    with serving(replying(200, b"<html>")) as url:
        assert failed(lambda: system(url).read("/x")) == (Rejected, True)
        assert failed(lambda: system(url).change("POST", "/x", {})) == (Unavailable, False)


def test_a_connection_dropped_in_the_middle_is_a_doubt_if_something_may_have_changed() -> None:
    def drop(handler: BaseHTTPRequestHandler, _body: bytes) -> None:
        handler.connection.shutdown(socket.SHUT_RDWR)

    with serving(drop) as url:
        assert failed(lambda: system(url).read("/x")) == (Unavailable, True)
        assert failed(lambda: system(url).change("POST", "/x", {})) == (Unavailable, False)


@pytest.mark.parametrize("drips", [False, True])
def test_no_answer_takes_longer_than_the_time_in_all(drips: bool) -> None:
    over = Event()

    def slow(handler: BaseHTTPRequestHandler, _body: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        while drips and not over.wait(0.02):
            handler.wfile.write(b"x")
        over.wait(30)

    with serving(slow) as url:
        try:
            assert failed(lambda: system(url, timeout_seconds=0.2).read("/x")) == (Unavailable, True)
            assert failed(lambda: system(url, timeout_seconds=0.2).change("POST", "/x", {})) == (Unavailable, False)
        finally:
            over.set()


def test_the_last_byte_of_a_change_is_not_sent_once_the_time_is_over() -> None:
    with slow_reader() as reader:
        acme = system(reader.url, timeout_seconds=20)
        with call_limited(reader.left):
            assert failed(lambda: acme.change("POST", "/x", b"x" * LARGE + b"!")) == (Unavailable, False)
    assert reader.received.endswith(b"x")


def test_a_change_whose_time_is_over_at_its_beginning_has_no_effect() -> None:
    came: list[str] = []

    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        came.append(handler.path)
        replying(200, b"{}")(handler, body)

    with serving(answer) as url, call_limited(lambda: 0):
        assert failed(lambda: system(url).change("POST", "/x", {})) == (Unavailable, True)
        assert failed(lambda: system(url).change("DELETE", "/x")) == (Unavailable, True)
    assert came == []


def test_a_change_without_a_body_and_one_of_a_single_byte_arrive_whole() -> None:
    came: list[tuple[str, bytes]] = []

    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        came.append((handler.command, body))
        replying(204)(handler, body)

    with serving(answer) as url:
        acme = system(url)
        acme.change("DELETE", "/x")
        acme.change("POST", "/x", b"1")
        acme.change("POST", "/x", [1, 2])
    assert came == [("DELETE", b""), ("POST", b"1"), ("POST", b"[1,2]")]


def test_a_system_that_is_not_there_has_certainly_not_acted() -> None:
    with serving(replying(200)) as url:
        pass
    assert failed(lambda: system(url).change("POST", "/x", {})) == (Unavailable, True)


def test_a_certificate_that_is_not_trusted_is_a_wrong_setting(tmp_path: Path) -> None:
    ca_file, tls = authority(tmp_path)
    with serving(replying(200, b"{}"), tls) as url:
        assert failed(lambda: system(url).read("/x")) == (AccessDenied, True)
        assert system(url, ca_file=ca_file).read("/x") == {}


def test_a_file_that_holds_no_certificates_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with serving(replying(200)) as url:
        assert failed(lambda: system(url, ca_file=tmp_path / "ca.pem").read("/x")) == (AccessDenied, True)


@pytest.mark.parametrize("kind", [each for _, each in inspect.getmembers(httpx, inspect.isclass)])
def test_every_exception_of_the_library_is_translated(kind: type[Exception]) -> None:
    if not issubclass(kind, httpx.HTTPError | httpx.InvalidURL):
        return
    error = kind.__new__(kind)
    assert isinstance(failure(error, "Acme", writes=True), AccessDenied | Unavailable)


@pytest.mark.parametrize("url", ["acme.test", "ftp://acme.test", "https://", "https://acme.test/?x=1", "https://a b"])
def test_an_address_that_cannot_work_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        HttpSettings(base_url=url)
