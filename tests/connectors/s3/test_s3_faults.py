from __future__ import annotations

import socket
import socketserver
import ssl
import struct
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Self

import pytest

from orchestrator.capabilities import Asset
from orchestrator.errors import AccessDenied, ConnectorError, NotFound, RateLimited, Rejected, Unavailable
from orchestrator_connectors.s3 import S3Files, S3Settings
from tests.support import certificates

DRESS = Asset(key="patterns/linen-summer-dress.zip")
HOUR = timedelta(hours=1)
ETAG = '"1b2cf535f27731c974343645a3985328"'


Behaviour = Callable[["Stub", socket.socket], None]


class Stub(socketserver.ThreadingTCPServer):
    """A server that reads each request and then behaves as it is told."""

    daemon_threads = True

    def __init__(self, behave: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.behave = behave
        self.tls = tls
        self.ended = Event()
        self.requests: list[bytes] = []

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()


class _Conversation(socketserver.BaseRequestHandler):
    server: Stub

    def handle(self) -> None:
        link = self.request
        try:
            if self.server.tls is not None:
                link = self.server.tls.wrap_socket(link, server_side=True)
            head = b""
            while b"\r\n\r\n" not in head and (part := link.recv(65_536)):
                head += part
            self.server.requests.append(head)
            self.server.behave(self.server, link)
        except OSError:
            pass  # the other side has gone: that is what many of these tests are about
        finally:
            link.close()


def reply(status: int, code: str = "", **headers: str) -> Behaviour:
    body = f"<Error><Code>{code}</Code><Message>hidden</Message></Error>".encode() if code else b""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return lambda _stub, link: link.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def silence(stub: Stub, _link: socket.socket) -> None:
    stub.ended.wait()


def drip(stub: Stub, link: socket.socket) -> None:
    """Send a byte now and then: each read succeeds, and the answer never ends."""
    link.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not stub.ended.wait(0.05):
        link.sendall(b"x")


def reset(_stub: Stub, link: socket.socket) -> None:
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang_up(_stub: Stub, _link: socket.socket) -> None:
    pass


def nonsense(_stub: Stub, link: socket.socket) -> None:
    link.sendall(b"250 this is no HTTP\r\n\r\n")


def settings(url: str, **changes: object) -> S3Settings:
    usual = {
        "bucket": "product-files",
        "endpoint_url": url,
        "access_key_id": "key",
        "secret_access_key": "hidden",
        "known_asset": DRESS.key,
        "timeout_seconds": 30,
    }
    return S3Settings.model_validate(usual | changes)


def connect(url: str, **changes: object) -> S3Files:
    files = S3Files(settings(url, **changes))
    files.link_to(DRESS, valid_for=HOUR)  # makes the client, so that a short time-out measures the server alone
    return files


def raised_by(call: Callable[[], object]) -> ConnectorError:
    with pytest.raises(ConnectorError) as caught:
        call()
    error = caught.value
    assert error.no_effect, "reading changes nothing"
    assert error.__cause__ is not None
    printed = "".join(traceback.format_exception(error))
    assert "hidden" not in printed
    assert "X-Amz-Signature" not in printed
    return error


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (301, AccessDenied),
        (400, AccessDenied),
        (401, AccessDenied),
        (403, AccessDenied),
        (405, Rejected),
        (409, Rejected),
        (429, RateLimited),
        (500, Unavailable),
        (502, Unavailable),
        (503, RateLimited),
        (504, Unavailable),
    ],
)
def test_a_refused_look_is_told_by_its_status(status: int, error: type[ConnectorError]) -> None:
    with Stub(reply(status)) as stub:
        assert type(raised_by(lambda: connect(stub.url).exists(DRESS))) is error


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "AuthorizationQueryParametersError", AccessDenied),
        (400, "EntityTooLarge", Rejected),
        (400, "ExpiredToken", AccessDenied),
        (400, "RequestTimeout", Unavailable),
        (400, "KMS.DisabledException", AccessDenied),
        (403, "InvalidObjectState", AccessDenied),
        (400, "Throttling", RateLimited),
        (403, "AccessDenied", AccessDenied),
        (403, "InvalidAccessKeyId", AccessDenied),
        (403, "RequestTimeTooSkewed", AccessDenied),
        (403, "SignatureDoesNotMatch", AccessDenied),
        (404, "NoSuchBucket", AccessDenied),
        (404, "NoSuchKey", NotFound),
        (416, "InvalidRange", Rejected),
        (500, "InternalError", Unavailable),
        (503, "SlowDown", RateLimited),
    ],
)
def test_a_refused_link_is_told_by_its_code(status: int, code: str, error: type[ConnectorError]) -> None:
    with Stub(reply(status, code)) as stub:
        raised = raised_by(connect(stub.url).check)
    assert type(raised) is error
    assert f"{status} {code}" in str(raised)


@pytest.mark.parametrize("status", [301, 302, 307, 400])
def test_a_redirected_look_is_not_followed(status: int) -> None:
    with Stub(reply(status, x_amz_bucket_region="eu-west-1")) as stub:
        raised = raised_by(lambda: connect(stub.url).exists(DRESS))
    assert type(raised) is AccessDenied
    assert str(raised).endswith("; the bucket lies in eu-west-1")
    assert len(stub.requests) == 1


def test_a_403_says_that_it_may_be_a_missing_file() -> None:
    with Stub(reply(403)) as stub:
        message = str(raised_by(lambda: connect(stub.url).exists(DRESS)))
    assert "without s3:ListBucket on the bucket, S3 answers a missing file in the same way" in message


def missing_file_in_a_bucket_that_answers(status: int) -> Behaviour:
    def behave(stub: Stub, link: socket.socket) -> None:
        of_the_file = DRESS.key.encode() in stub.requests[-1]
        reply(404 if of_the_file else status)(stub, link)

    return behave


def test_a_missing_file_is_believed_even_if_the_bucket_may_not_be_asked() -> None:
    with Stub(missing_file_in_a_bucket_that_answers(403)) as stub:
        assert connect(stub.url).exists(DRESS) is False
    assert len(stub.requests) == 2


def test_a_missing_file_is_not_believed_while_the_bucket_is_unavailable() -> None:
    with Stub(missing_file_in_a_bucket_that_answers(500)) as stub:
        assert type(raised_by(lambda: connect(stub.url).exists(DRESS))) is Unavailable


def test_a_page_of_somebody_else_is_no_file() -> None:
    with Stub(reply(200, "html", Content_Type="text/html")) as stub:
        files = connect(stub.url)
        listing = connect(stub.url, known_asset=None)
        for call in (lambda: files.exists(DRESS), files.check, listing.check):
            with pytest.raises(Unavailable, match="answered what no store answers: check endpoint_url"):
                call()


@pytest.mark.parametrize(("status", "headers"), [(400, {}), (404, {}), (405, {"x_amz_delete_marker": "true"})])
def test_a_version_that_is_gone_is_no_file(status: int, headers: dict[str, str]) -> None:
    def behave(stub: Stub, link: socket.socket) -> None:
        of_the_version = b"versionId=" in stub.requests[-1]
        (reply(status, **headers) if of_the_version else reply(200))(stub, link)

    with Stub(behave) as stub:
        files = connect(stub.url, objects={DRESS.key: {"key": DRESS.key, "version": "3sL4kqtJlcpXroDTDmJ"}})
        assert files.exists(DRESS) is False


def test_a_version_is_not_gone_because_a_session_ended() -> None:
    with Stub(reply(400)) as stub:
        files = connect(stub.url, objects={DRESS.key: {"key": DRESS.key, "version": "3sL4kqtJlcpXroDTDmJ"}})
        assert type(raised_by(lambda: files.exists(DRESS))) is AccessDenied


def test_the_first_calls_may_come_from_many_threads() -> None:
    with Stub(reply(200, ETag=ETAG)) as stub, ThreadPoolExecutor(8) as threads:
        files = S3Files(settings(stub.url))
        assert list(threads.map(files.exists, [DRESS] * 16)) == [True] * 16


@pytest.mark.parametrize(
    ("header", "retry_after"),
    [
        ({"Retry_After": "7"}, timedelta(seconds=7)),
        ({"Retry_After": "Sun, 01 Nov 2026 00:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_the_wait_that_is_asked_for_is_handed_on(header: dict[str, str], retry_after: timedelta | None) -> None:
    with Stub(reply(503, "SlowDown", **header)) as stub:
        for call in (connect(stub.url).check, lambda: connect(stub.url).exists(DRESS)):
            raised = raised_by(call)
            assert isinstance(raised, RateLimited)
            assert raised.retry_after == retry_after


def test_a_strange_code_does_not_reach_the_message() -> None:
    with Stub(reply(418, "x hidden x")) as stub:
        assert "418" in str(raised_by(connect(stub.url).check))


@pytest.mark.parametrize("behaviour", [reset, hang_up, nonsense], ids=lambda behaviour: str(behaviour.__name__))
def test_a_broken_connection_is_unavailable(behaviour: Behaviour) -> None:
    with Stub(behaviour) as stub:
        files = connect(stub.url)
        for call in (files.check, lambda: files.exists(DRESS)):
            assert type(raised_by(call)) is Unavailable
    assert len(stub.requests) == 2, "the runner tries again, not the client"


@pytest.mark.parametrize("behaviour", [silence, drip], ids=lambda behaviour: str(behaviour.__name__))
def test_no_answer_takes_longer_than_the_time_out_in_all(behaviour: Behaviour) -> None:
    with Stub(behaviour) as stub:
        files = connect(stub.url, timeout_seconds=1.5)
        for call in (files.check, lambda: files.exists(DRESS)):
            began = time.monotonic()
            assert type(raised_by(call)) is Unavailable
            assert time.monotonic() - began < 4


def test_a_store_that_is_not_there_is_unavailable() -> None:
    with Stub(hang_up) as stub:
        gone = stub.url
    assert type(raised_by(lambda: connect(gone).exists(DRESS))) is Unavailable


def test_building_a_connection_asks_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with Stub(reply(404)) as machine:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.url)
        files = S3Files(S3Settings(bucket="product-files"))
        assert machine.requests == []
        raised = raised_by(lambda: files.link_to(DRESS, valid_for=HOUR))
    assert type(raised) is AccessDenied
    assert machine.requests, "without own keys, the machine's role is asked at the first call"


def test_a_private_authority_is_trusted_through_its_ca_file(authority: tuple[Path, ssl.SSLContext]) -> None:
    ca_file, tls = authority
    with Stub(reply(200, ETag=ETAG), tls) as stub:
        trusting = connect(stub.url, ca_file=ca_file)
        assert trusting.exists(DRESS)
        assert trusting.check()


def test_an_unknown_authority_is_not_trusted(authority: tuple[Path, ssl.SSLContext]) -> None:
    with Stub(reply(200, ETag=ETAG), authority[1]) as stub:
        for call in (lambda: connect(stub.url).exists(DRESS), connect(stub.url).check):
            raised = raised_by(call)
            assert type(raised) is Unavailable
            assert "its certificate is not trusted" in str(raised)
            assert "correct ca_file" in str(raised)


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    return certificates.authority(tmp_path)
