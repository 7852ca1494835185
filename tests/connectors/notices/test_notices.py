"""Notices against real receivers: a Slack that reads what it is sent, and one that checks signatures."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, Self

import pytest
from pydantic import ValidationError
from standardwebhooks import Webhook

from orchestrator.capabilities import Notice
from orchestrator.errors import AccessDenied, ConnectorError, RateLimited, Rejected, Unavailable
from orchestrator.plugins import DoubtClass
from orchestrator.testing.contracts.faults import FaultsContract
from orchestrator.testing.contracts.notices import NOTICE, NotifierContract
from orchestrator.testing.fake_backends import FakeReaders
from orchestrator.testing.notices import FakeNotifier
from orchestrator.testing.stub_server import StubServer
from orchestrator_connectors.notices import PostSettings, SlackNotifier, WebhookNotifier, WebhookSettings

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
PATH = "/services/T000/B000/XXXXsecretXXXX"


class Receiver:
    """Takes posts; answers as it is told to, and keeps what it took."""

    def __init__(self) -> None:
        self.posts: list[tuple[Mapping[str, str], bytes]] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.drop = False
        self.silent = Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}{PATH}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if receiver.status == 200:
                    receiver.posts.append((dict(self.headers), body))
                if receiver.drop:
                    receiver.drop = False
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                receiver.silent.wait(30) if receiver.status == 0 else self._answer()

            def do_HEAD(self) -> None:
                self.send_response(405)
                self.end_headers()

            def _answer(self) -> None:
                self.send_response(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: Any) -> None: ...

        return Handler

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.silent.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def slack(receiver: Receiver, **more: Any) -> SlackNotifier:
    return SlackNotifier(PostSettings(url=receiver.url, **more))


def webhook(receiver: Receiver, **more: Any) -> WebhookNotifier:
    return WebhookNotifier(WebhookSettings(url=receiver.url, secret=SECRET, **more))


class InSlack:
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def told(self) -> list[str]:
        return [
            "\n".join(block["text"]["text"] for block in json.loads(body)["blocks"]) for _, body in self._receiver.posts
        ]

    def drop_next_answer(self) -> None:
        self._receiver.drop = True


class BehindWebhook(InSlack):
    """Checks each signature with the standard's own library, and takes each id once."""

    def told(self) -> list[str]:
        taken = {}
        for headers, body in self._receiver.posts:
            lower = {name.lower(): value for name, value in headers.items()}
            said = Webhook(SECRET).verify(body, lower)["data"]
            taken[lower["webhook-id"]] = "\n".join([said["title"], *said["lines"]])
        return list(taken.values())


class TestSlack(NotifierContract):
    connector = "slack"

    @pytest.fixture
    def notifier(self, receiver: Receiver) -> SlackNotifier:
        return slack(receiver)

    @pytest.fixture
    def readers(self, receiver: Receiver) -> InSlack:
        return InSlack(receiver)


class Address(StubServer):
    """Takes what is posted to it, as Slack does, and fails on demand; whoever has the address may post."""

    def __init__(self) -> None:
        super().__init__()
        self.open = True

    def admits(self, headers: Mapping[str, str]) -> bool:
        return self.open

    def revoke(self) -> None:
        self.open = False

    def answer(self, method: str, path: str, given: Mapping[str, Any]) -> tuple[int, Any]:
        return 200, b"ok"


class TestSlackFaults(FaultsContract):
    connector = "slack"

    @pytest.fixture
    def faults(self) -> Iterator[Address]:
        with Address() as slack:
            yield slack

    @pytest.fixture
    def change(self, faults: Address) -> Callable[[], object]:
        notifier = SlackNotifier(PostSettings(url=faults.url + PATH, timeout_seconds=3))
        return lambda: notifier.notify(NOTICE, effect_id="f-1")

    @pytest.fixture
    def ask(self, change: Callable[[], object]) -> Callable[[], object]:
        return change  # there is no call that changes nothing


class TestWebhook(NotifierContract):
    connector = "webhook"

    @pytest.fixture
    def notifier(self, receiver: Receiver) -> WebhookNotifier:
        return webhook(receiver)

    @pytest.fixture
    def readers(self, receiver: Receiver) -> BehindWebhook:
        return BehindWebhook(receiver)


class AnyAddress(Address):
    """A receiver whose status says all: only what is no HTTP cannot be understood."""

    def garbage(self) -> None:
        self.nonsense()


class TestWebhookFaults(FaultsContract):
    connector = "webhook"

    @pytest.fixture
    def faults(self) -> Iterator[AnyAddress]:
        with AnyAddress() as receiver:
            yield receiver

    @pytest.fixture
    def change(self, faults: AnyAddress) -> Callable[[], object]:
        notifier = WebhookNotifier(WebhookSettings(url=faults.url + PATH, secret=SECRET, timeout_seconds=3))
        return lambda: notifier.notify(NOTICE, effect_id="f-1")

    @pytest.fixture
    def ask(self, change: Callable[[], object]) -> Callable[[], object]:
        return change  # there is no call that changes nothing


class TestFake(NotifierContract):
    @pytest.fixture
    def notifier(self) -> FakeNotifier:
        return FakeNotifier()

    @pytest.fixture
    def readers(self, notifier: FakeNotifier) -> FakeReaders:
        return FakeReaders(notifier)


def failure(receiver: Receiver, **more: Any) -> ConnectorError:
    with pytest.raises(ConnectorError) as caught:
        slack(receiver, **more).notify(NOTICE, effect_id="f-1")
    assert "secret" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind", "certain"),
    [
        (400, Rejected, True),
        (413, Rejected, True),
        (401, AccessDenied, True),
        (403, AccessDenied, True),
        (404, AccessDenied, True),
        (410, AccessDenied, True),
        (429, RateLimited, True),
        (503, Unavailable, False),
        (500, Unavailable, False),
        (502, Unavailable, False),
        (302, AccessDenied, False),
    ],
)
def test_a_refusal_is_told_by_its_status(
    receiver: Receiver, status: int, kind: type[ConnectorError], certain: bool
) -> None:
    receiver.status = status
    error = failure(receiver)
    assert (type(error), error.no_effect) == (kind, certain)


@pytest.mark.parametrize(("written", "seconds"), [("7", 7), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)])
def test_the_wait_that_is_asked_for_is_handed_on(receiver: Receiver, written: str, seconds: int) -> None:
    receiver.status, receiver.headers = 429, {"Retry-After": written}
    error = failure(receiver)
    assert isinstance(error, RateLimited)
    assert error.retry_after == timedelta(seconds=seconds)


def test_a_wait_that_cannot_be_read_is_none(receiver: Receiver) -> None:
    receiver.status, receiver.headers = 429, {"Retry-After": "soon"}
    error = failure(receiver)
    assert isinstance(error, RateLimited)
    assert error.retry_after is None


def test_silence_is_a_doubt(receiver: Receiver) -> None:
    receiver.status = 0
    error = failure(receiver, timeout_seconds=0.2)
    assert (type(error), error.no_effect) == (Unavailable, False)


def test_a_receiver_that_is_not_there_took_nothing() -> None:
    with Receiver() as receiver:
        pass
    error = failure(receiver)
    assert (type(error), error.no_effect) == (Unavailable, True)
    with pytest.raises(Unavailable):
        slack(receiver).check()


def test_words_cannot_mention_link_or_shout_in_slack(receiver: Receiver) -> None:
    slack(receiver).notify(Notice(title="<!channel> & <https://evil.test|you>"), effect_id="f-1")
    sent = json.loads(receiver.posts[0][1])
    assert "<" not in sent["text"]
    assert {block["text"]["type"] for block in sent["blocks"]} == {"plain_text"}


def test_a_repeated_notice_carries_the_same_key(receiver: Receiver) -> None:
    notifier = webhook(receiver)
    for _ in range(2):
        notifier.notify(NOTICE, effect_id="f-1")
    assert [headers["webhook-id"] for headers, _ in receiver.posts] == ["f-1", "f-1"]
    settlement = notifier.settlements["notify"]
    assert (settlement.doubt, settlement.key_lifetime) == (DoubtClass.NATIVE_KEY, timedelta(hours=24))


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "hooks.slack.com/services/x"},
        {"url": "https://"},
        {"secret": "short"},
        {"secret": "whsec_c2hvcnQ="},
        {"secret": "whsec_???"},
        {"remembers_hours": 0},
    ],
)
def test_settings_that_cannot_work_are_refused_and_not_repeated(wrong: dict[str, Any]) -> None:
    given = {"url": "https://hooks.test/x", "secret": SECRET, **wrong}
    with pytest.raises(ValidationError) as caught:
        WebhookSettings(**given)
    assert SECRET not in str(caught.value)


def test_there_is_no_other_effect(receiver: Receiver) -> None:
    for notifier in (slack(receiver), webhook(receiver), FakeNotifier()):
        assert set(notifier.settlements) == {"notify"}
