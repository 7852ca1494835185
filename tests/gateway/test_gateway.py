from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.bootstrap import Application
from orchestrator.gateway.concurrency import AllTaken, ConcurrencyLimit
from orchestrator.gateway.ingress import RETRY_AFTER_SECONDS
from orchestrator.record.heartbeat import WORKER, Heartbeat
from orchestrator.record.verify import verify
from tests.support.gateways import PATIENCE_SECONDS, Served, received, serve, wait_until
from tests.support.webhooks import HOOKS, configured, order, signed

KEAP = f"/hooks/keap/{'s' * 32}"
SMALL = 'prefect.api_url = "http://127.0.0.1:9/api"\ngateway = {in_flight = 4, read_seconds = 1}\n'
FORGED = (401, {"error": "signature"})


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Application]:
    app = configured(tmp_path, text=SMALL + HOOKS)
    yield app
    app.record.store.close()


@pytest.fixture
def served(app: Application) -> Iterator[Served]:
    with serve(app) as served:
        yield served


def answer(response: httpx.Response) -> tuple[int, Any]:
    return response.status_code, response.json()


def test_a_genuine_call_is_answered_with_its_delivery_which_has_a_run(served: Served) -> None:
    response = served.shop(1)
    (found,) = served.app.inbox.listed(limit=9)
    assert answer(response) == (202, {"delivery": found.delivery})
    (run,) = served.app.runs.listed(limit=9)
    assert (found.source, found.run_id, run.process) == ("webhook:shop", run.run_id, "serve")


def test_the_same_call_again_is_answered_alike_and_other_bytes_are_a_conflict(served: Served) -> None:
    first, again, other = served.shop(1), served.shop(1), served.shop(1, changed=True)
    assert answer(first) == answer(again)
    assert answer(other) == (409, {"error": "conflict"})
    assert len(served.app.runs.listed(limit=9)) == 1


def test_a_delivery_is_the_same_under_the_headers_of_svix(served: Served) -> None:
    body = order(1)
    headers = signed("standard-webhooks", body, time.time(), id_="m-1")
    first = served.shop(1)
    renamed = {name.replace("webhook-", "svix-"): value for name, value in headers.items()}
    assert answer(first) == answer(served.post(body, **renamed)) == answer(served.post(body, **headers, **renamed))
    assert answer(served.post(body, **renamed, **{"webhook-id": "m-2"})) == FORGED
    assert len(served.app.runs.listed(limit=9)) == 1


def test_what_is_no_input_is_accepted_as_a_dead_letter(served: Served) -> None:
    for body in (b"\xff", b"", b"[]", order(1, customer={"email": None})):
        headers = signed("standard-webhooks", body, time.time(), id_=f"m-{body!r}")
        assert served.post(body, **headers).status_code == 202
    assert [found.state for found in served.app.inbox.listed(limit=9)] == ["dead-letter"] * 4
    assert served.app.runs.listed(limit=9) == []


def test_an_unsigned_call_needs_the_secret_address(served: Served) -> None:
    assert served.post(order(1), KEAP).status_code == 202
    for path in ("/hooks/keap", "/hooks/keap/", f"{KEAP}s", f"{KEAP}/", KEAP[:-1]):
        assert answer(served.post(order(2), path)) == FORGED


def test_an_unknown_webhook_gets_the_same_answer_as_a_forged_signature(served: Served) -> None:
    body = order(1)
    headers = signed("standard-webhooks", body, time.time(), secret=b"another secret")
    known, unknown = served.post(body, **headers), served.post(body, "/hooks/nobody", **headers)
    assert answer(known) == answer(unknown) == FORGED
    names = [{name for name in response.headers if name != "date"} for response in (known, unknown)]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    "path", ["%0AB", "nobody%0A", "%0D%0A", "shop%0A", "%0Ashop", "keap/%0A", "%E2%80%A8", "%FF", "%00", ""]
)
def test_every_unknown_name_is_answered_alike_whatever_its_characters(served: Served, path: str) -> None:
    assert answer(served.post(b"{}", f"/hooks/{path}")) == FORGED


def test_an_old_call_is_refused(served: Served) -> None:
    body = order(1)
    response = served.post(body, **signed("standard-webhooks", body, time.time() - 400))
    assert answer(response) == (401, {"error": "time"})
    assert served.app.inbox.listed(limit=9) == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_only_post_is_taken_in(served: Served, method: str) -> None:
    responses = [served.client.request(method, f"/hooks/{name}") for name in ("shop", "nobody")]
    assert [response.status_code for response in responses] == [405, 405]


@pytest.mark.parametrize("path", ["/", "/hooks", "/docs", "/live/", "/HOOKS/shop", "/hooks%2fshop"])
def test_other_addresses_are_not_there(served: Served, path: str) -> None:
    assert served.post(b"{}", path).status_code in (404, 401)
    assert served.app.inbox.listed(limit=9) == []


def test_slack_gets_its_challenge_back_and_nothing_is_stored(served: Served) -> None:
    body = b'{"type": "url_verification", "challenge": "3eZbrw1aB"}'
    headers = signed("slack", body, time.time())
    assert answer(served.post(body, "/hooks/slack", **headers)) == (200, {"challenge": "3eZbrw1aB"})
    headers["X-Slack-Signature"] = "v0=0"
    assert answer(served.post(body, "/hooks/slack", **headers)) == FORGED
    assert served.app.inbox.listed(limit=9) == []


def test_keap_gets_its_secret_back(served: Served) -> None:
    response = served.post(b"", KEAP, **{"X-Hook-Secret": "abc-123"})
    assert (response.status_code, response.headers["X-Hook-Secret"]) == (200, "abc-123")
    body = order(1)
    headers = signed("standard-webhooks", body, time.time())
    assert "X-Hook-Secret" not in served.post(body, **headers, **{"X-Hook-Secret": "abc"}).headers


# --- size, slowness and pressure ---------------------------------------------------------------------------------


def test_a_body_as_large_as_allowed_is_taken_and_one_byte_more_is_not(served: Served) -> None:
    exact = order(1) + b" " * (2000 - len(order(1)))
    assert served.post(exact, KEAP).status_code == 202
    assert answer(served.post(exact + b" ", KEAP)) == (413, {"error": "size"})
    assert answer(served.post(b"x" * 1_000_001, "/hooks/nobody")) == (413, {"error": "size"})


def test_a_streamed_body_that_grows_too_large_is_refused_on_the_way(served: Served) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(10_000):
            sent += 100_000
            yield b"x" * 100_000

    try:
        response = served.client.post(KEAP, content=chunks())
    except httpx.TransportError:
        pass  # the gateway hung up while this side was still sending, and its answer was lost on the way
    else:
        assert response.status_code == 413
    assert sent < 100_000_000
    assert served.client.get("/live").status_code == 200


def opened(served: Served, path: str = KEAP, length: int = 100) -> socket.socket:
    """Open a connection whose call has its slot, and send all but the last byte."""
    connection = socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_SECONDS)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close\r\n"
    connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
    assert connection.recv(1000).startswith(b"HTTP/1.1 100")
    connection.sendall(b" " * (length - 1))
    return connection


def test_a_body_that_does_not_come_in_time_is_given_up(served: Served) -> None:
    assert b"408" in received(opened(served)).splitlines()[0]
    assert served.shop(1).status_code == 202


def status_of(connection: socket.socket) -> bytes:
    return received(connection).split(b" ", 2)[1]


def test_one_webhook_leaves_room_for_the_others(app: Application) -> None:
    patient = app.settings.gateway.model_copy(update={"read_seconds": 60})
    app.settings = app.settings.model_copy(update={"gateway": patient})
    with serve(app) as served:
        slow = [opened(served), opened(served)]
        response = served.post(order(1), KEAP)
        assert answer(response) == (429, {"error": "busy"})
        assert response.headers["Retry-After"] == str(RETRY_AFTER_SECONDS)
        assert served.shop(1).status_code == 202
        slow += [opened(served, "/hooks/nobody"), opened(served, "/hooks/nobody")]
        response = served.shop(2)
        assert answer(response) == (503, {"error": "busy"})
        assert response.headers["Retry-After"] == str(RETRY_AFTER_SECONDS)
        for connection in slow:
            connection.sendall(b" ")
        assert [status_of(connection) for connection in slow] == [b"202", b"202", b"401", b"401"]
        assert served.shop(3).status_code == 202


def test_slots_are_given_back_whatever_happens() -> None:
    slots = ConcurrencyLimit(2)
    for _ in range(5):
        with pytest.raises(RuntimeError), slots.slot("a"):
            raise RuntimeError
    with slots.slot("a"):
        with pytest.raises(AllTaken) as caught, slots.slot("a"):
            pass
        assert caught.value.of_one
        with slots.slot("b"), pytest.raises(AllTaken) as caught, slots.slot("c"):
            pass
        assert not caught.value.of_one


def test_a_caller_that_hangs_up_leaves_no_trace_but_a_count(app: Application) -> None:
    with serve(app) as served:
        for _ in range(20):
            opened(served).close()
            wait_until(lambda: served.post(order(1), KEAP).status_code == 202)
    assert served.refused()["keap", "slow"] == 20


# --- the record, readiness, and nothing personal -----------------------------------------------------------------


def test_refused_calls_are_counted_by_webhook_and_reason(app: Application) -> None:
    with serve(app) as served:
        for number in range(30):
            served.post(b"{}", f"/hooks/nobody-{number}")
        for _ in range(3):
            served.post(b"{}")
        served.post(b"x" * 3000, KEAP)
    assert served.refused() == {("(unknown)", "signature"): 30, ("shop", "signature"): 3, ("keap", "size"): 1}
    with app.record.store.read() as tx:
        events = app.record.trail.latest(tx, limit=99)
        assert verify(tx).breaches == ()
    assert [event.kind for event in events] == ["calls.refused"]


def test_a_gateway_lives_and_accepts_calls_without_a_worker_but_the_service_is_not_ready(served: Served) -> None:
    assert answer(served.client.get("/live")) == (200, {"live": True})
    assert answer(served.client.get("/ready/hooks")) == (200, {"ready": True})
    found = {"ready": False, "hooks": True, "worker": False, "processes": True, "prefect": False}
    assert answer(served.client.get("/ready")) == (503, found)


def test_with_a_worker_on_the_same_store_the_service_is_ready_without_prefect(app: Application) -> None:
    worker = Heartbeat(app.record, WORKER)
    worker.beat()
    with serve(app) as served:
        found = {"ready": True, "hooks": True, "worker": True, "processes": True, "prefect": False}
        assert answer(served.client.get("/ready")) == (200, found)
        worker.end()
        wait_until(lambda: served.client.get("/ready").status_code == 503)


def test_a_store_that_is_gone_is_told_and_calls_are_asked_to_come_again(app: Application, tmp_path: Path) -> None:
    with serve(app) as served:
        app.record.store.close()
        for file in tmp_path.glob("record.db*"):
            file.unlink()
        (tmp_path / "record.db").mkdir()
        assert answer(served.client.get("/ready/hooks")) == (503, {"ready": False})
        assert served.client.get("/ready").status_code == 503
        response = served.shop(1)
        assert answer(response) == (503, {"error": "failed"})
        assert response.headers["Retry-After"] == str(RETRY_AFTER_SECONDS)
        assert served.client.get("/live").status_code == 200


def test_nothing_that_was_sent_is_logged(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "orchestrator")
    caplog.set_level(logging.INFO, "uvicorn")
    served.shop(1)
    served.post(b'{"email": "canary@example.com"}', KEAP)
    served.post(b"canary", "/hooks/canary", Canary="canary")
    assert "canary" not in caplog.text
    assert "s" * 32 not in caplog.text
    assert "ann1" not in caplog.text
