"""The stand-in answers each method as HTTP says, and fails on demand in each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from orchestrator.testing.http_server import Answer, Fault
from orchestrator.testing.stub_server import StubServer


class Echo(StubServer):
    """Answers what it was asked."""

    def answer(self, method: str, path: str, given: Mapping[str, Any]) -> tuple[int, Any]:
        return (200, {"method": method, "path": path, "given": given}) if path == "/things" else (404, None)


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as echo:
        yield echo


@pytest.fixture
def http(echo: Echo) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {echo.credential}"}
    with httpx.Client(base_url=echo.url, headers=headers, timeout=0.5) as client:
        yield client


def test_a_key_that_is_repeated_has_all_its_values(http: httpx.Client) -> None:
    given = http.get("/things?tag=a&tag=b&page=2&empty=").json()["given"]
    assert given == {"tag": ["a", "b"], "page": 2, "empty": ""}


def test_head_is_answered_with_the_headers_of_get_and_no_body(http: httpx.Client) -> None:
    head, get = http.head("/things?id=1"), http.get("/things?id=1")
    assert (head.status_code, head.content, head.headers["Content-Type"]) == (200, b"", "application/json")
    assert int(head.headers["Content-Length"]) == len(get.content) + len("HEAD") - len("GET")
    assert http.head("/none").status_code == 404


def test_a_connection_serves_what_follows_a_head(http: httpx.Client) -> None:
    http.head("/things")
    assert http.get("/things").json()["method"] == "GET"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("fault", ["drop", "cut", "lose", "silence", "nonsense"])
def test_a_fault_befalls_every_method(echo: Echo, http: httpx.Client, method: str, fault: str) -> None:
    getattr(echo, fault)()
    with pytest.raises(httpx.TransportError):
        http.request(method, "/things")
    assert http.request(method, "/things").status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_refusal_befalls_every_method(echo: Echo, http: httpx.Client, method: str) -> None:
    echo.refuse(429, Retry_After="7")
    refused = http.request(method, "/things")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "7")


def test_a_fault_waits_for_the_call_that_it_names(echo: Echo, http: httpx.Client) -> None:
    echo.fail_next(None, Fault(answer=Answer(503)), on="POST /things")
    asked = [http.request(method, "/things").status_code for method in ("POST", "GET", "POST", "POST")]
    assert asked == [200, 200, 503, 200]
    assert echo.calls == ["POST /things", "GET /things", "POST /things", "POST /things"]


def test_a_cut_answer_is_known_to_be_incomplete(echo: Echo, http: httpx.Client) -> None:
    echo.cut()
    with (
        http.stream("GET", "/things") as cut,
        pytest.raises(httpx.RemoteProtocolError, match="without sending complete"),
    ):
        cut.read()


def test_garbage_has_the_status_of_the_answer_and_no_meaning(echo: Echo, http: httpx.Client) -> None:
    echo.garbage()
    answer = http.get("/things")
    assert (answer.status_code, answer.content) == (200, b"<html>")


def test_garbage_without_a_body_is_no_http(echo: Echo, http: httpx.Client) -> None:
    echo.garbage()
    with pytest.raises(httpx.RemoteProtocolError):
        http.head("/things")
