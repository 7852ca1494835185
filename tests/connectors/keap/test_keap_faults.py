from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.errors import AccessDenied, NotFound, RateLimited, Rejected, Unavailable
from orchestrator.sandbox.keap import KeapServer
from orchestrator.testing.faults import FaultProxy
from orchestrator.testing.http_server import Answer, Fault
from orchestrator.toolkit import TimeLimit
from orchestrator.toolkit.http import Exchange
from orchestrator_connectors.keap import KeapAccount
from orchestrator_connectors.keap.api import KeapApi, Page, Session
from orchestrator_connectors.keap.quota import Quota
from tests.support.keap_account import ANNA, account, connect, raised_by, settings_of

TEXT = "A fresh link was sent."
LEFT = "x-keap-product-throttle"


@pytest.fixture
def keap() -> Iterator[KeapServer]:
    with account() as server:
        yield server


@pytest.fixture
def network(keap: KeapServer) -> Iterator[FaultProxy]:
    host, port = keap.url.removeprefix("http://").split(":")
    with FaultProxy(host, int(port)) as proxy:
        yield proxy


def through(network: FaultProxy, keap: KeapServer, **changes: object) -> KeapAccount:
    return connect(keap, base_url=f"http://127.0.0.1:{network.port}/crm", **changes)


def looks(crm: KeapAccount) -> Callable[[], object]:
    return lambda: crm.purchases_of(ANNA)


def notes(crm: KeapAccount) -> Callable[[], object]:
    return lambda: crm.note(ANNA, TEXT, effect_id="e-1")


def probed(crm: KeapAccount) -> bool:
    probe = crm.settlements["note"].probe
    assert probe is not None
    return probe("e-1", email=ANNA, text=TEXT) is not None


@pytest.mark.parametrize("passing", [0, 5, 40, 400])
def test_a_look_up_that_is_cut_off_has_no_effect(keap: KeapServer, network: FaultProxy, passing: int) -> None:
    crm = through(network, keap)
    network.lose_answer(after=b"GET", passing=passing)
    raised = raised_by(looks(crm))
    assert (type(raised), raised.no_effect) == (Unavailable, True)
    assert len(crm.purchases_of(ANNA)) == 1


@pytest.mark.parametrize("passing", [0, 5, 40, 400])
def test_a_note_whose_answer_is_cut_off_is_in_doubt_and_found(
    keap: KeapServer, network: FaultProxy, passing: int
) -> None:
    crm = through(network, keap)
    network.lose_answer(after=b"/notes HTTP/1.1", passing=passing)
    raised = raised_by(notes(crm))
    assert (type(raised), raised.no_effect) == (Unavailable, False)
    assert probed(crm)


def test_a_note_that_never_arrived_is_in_doubt_and_not_found(keap: KeapServer, network: FaultProxy) -> None:
    crm = through(network, keap)
    network.lose_request(at=b"/notes HTTP/1.1")
    raised = raised_by(notes(crm))
    assert (type(raised), raised.no_effect) == (Unavailable, False)
    assert not probed(crm)


def test_a_note_whose_contact_was_not_found_in_time_was_certainly_not_written(
    keap: KeapServer, network: FaultProxy
) -> None:
    crm = through(network, keap, timeout_seconds=0.5)
    network.hold_answer(after=b"GET /crm/rest/v2/contacts")
    raised = raised_by(notes(crm))
    assert (type(raised), raised.no_effect) == (Unavailable, True)
    assert keap.crm.notes == {}


def test_a_note_that_is_never_answered_is_given_up_in_time_and_found(keap: KeapServer, network: FaultProxy) -> None:
    crm = through(network, keap, timeout_seconds=0.5)
    network.hold_answer(after=b"/notes HTTP/1.1")
    began = time.monotonic()
    raised = raised_by(notes(crm))
    assert (type(raised), raised.no_effect) == (Unavailable, False)
    assert "within 0.5 s" in str(raised) or "ReadTimeout" in str(raised)
    assert time.monotonic() - began < 5
    assert probed(crm)


def test_an_answer_that_trickles_is_given_up_in_time(keap: KeapServer, network: FaultProxy) -> None:
    crm = through(network, keap, timeout_seconds=0.5)
    network.trickle_answer(after=b"GET", pause=0.05)
    began = time.monotonic()
    raised = raised_by(looks(crm))
    assert (type(raised), raised.no_effect) == (Unavailable, True)
    assert time.monotonic() - began < 5


def test_a_server_that_is_not_there_was_never_asked(keap: KeapServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    crm = connect(keap, base_url=f"http://127.0.0.1:{port}/crm")
    for call in (looks(crm), notes(crm)):
        raised = raised_by(call)
        assert (type(raised), raised.no_effect) == (Unavailable, True)


def test_an_authority_that_is_not_trusted_is_a_failed_connection(keap: KeapServer, tmp_path: Path) -> None:
    crm = connect(keap, base_url=keap.base_url.replace("http://", "https://"))
    raised = raised_by(looks(crm))
    assert (type(raised), raised.no_effect) == (Unavailable, True)
    (tmp_path / "ca.pem").write_text("none")
    assert type(raised_by(looks(connect(keap, ca_file=tmp_path / "ca.pem")))) is AccessDenied


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
def test_what_fails_on_their_side_is_in_doubt_only_if_it_writes(keap: KeapServer, status: int) -> None:
    crm = connect(keap)
    keap.fail_next(Fault(answer=Answer(status, f"<html>{ANNA} s3cret</html>".encode())))
    raised = raised_by(looks(crm))
    assert (type(raised), raised.no_effect) == (Unavailable, True)
    keap.refuse(status, on="POST")
    raised = raised_by(notes(crm))
    assert (type(raised), raised.no_effect) == (Unavailable, False)


@pytest.mark.parametrize(
    "body", [b"", b"<html>s3cret</html>", b"[]", b'{"contacts": "s3cret"}', b'{"contacts": [{"id": ""}]}', b"\xff\xfe"]
)
def test_an_answer_that_cannot_be_understood_is_not_shown(keap: KeapServer, body: bytes) -> None:
    crm = connect(keap)
    keap.fail_next(Fault(answer=Answer(200, body)))
    assert type(raised_by(looks(crm))) is Rejected


@pytest.mark.parametrize("body", [b"", b"<html>s3cret</html>", b"{}"])
def test_a_note_whose_answer_cannot_be_understood_is_in_doubt(keap: KeapServer, body: bytes) -> None:
    crm = connect(keap)
    keap.fail_next(Fault(answer=Answer(201, body)), on="POST")
    raised = raised_by(notes(crm))
    assert (type(raised), raised.no_effect) == (Unavailable, False)


def test_a_contact_that_vanishes_under_the_note_is_not_found(keap: KeapServer) -> None:
    crm = connect(keap)
    keap.refuse(404, on="POST")
    assert type(raised_by(notes(crm))) is NotFound


def test_a_contact_that_vanishes_under_the_probe_tells_nothing(keap: KeapServer) -> None:
    crm = connect(keap)
    cards = keap.crm.list_contacts({"filter": f"email=={ANNA}"})
    keap.fail_next(Fault(answer=Answer(200, cards)))
    keap.refuse(404)
    assert type(raised_by(lambda: probed(crm))) is Unavailable


def test_a_wrong_base_url_is_told_as_such(keap: KeapServer) -> None:
    for path in ("/crm/rest", "/elsewhere"):
        raised = raised_by(looks(connect(keap, base_url=keap.url + path)))
        assert type(raised) is AccessDenied
        assert "check base_url" in str(raised)


def test_a_refusal_to_hurry_says_how_long_to_wait_if_it_does(keap: KeapServer) -> None:
    keap.refuse(429, Retry_After="7")
    raised = raised_by(looks(connect(keap)))
    assert isinstance(raised, RateLimited)
    assert raised.retry_after is not None
    assert raised.retry_after.total_seconds() == 7
    keap.refuse(429, **{f"{LEFT}-available": "9"})
    raised = raised_by(looks(connect(keap)))
    assert (type(raised), getattr(raised, "retry_after", 0)) == (RateLimited, None)


def test_keap_is_not_asked_again_once_it_has_said_that_nothing_is_left(keap: KeapServer) -> None:
    keap.gate.throttle.limit = 3
    crm = connect(keap)
    crm.purchases_of(ANNA)
    raised = raised_by(notes(crm))
    assert isinstance(raised, RateLimited)
    assert raised.retry_after is not None
    assert 50 < raised.retry_after.total_seconds() <= 60
    assert raised_by(looks(crm))
    assert (len(keap.calls), keap.crm.notes) == (3, {})


def test_a_refusal_without_a_time_is_waited_for_as_the_quota_says(keap: KeapServer) -> None:
    keap.gate.throttle.limit = 0
    raised = raised_by(looks(connect(keap)))
    assert isinstance(raised, RateLimited)
    assert raised.retry_after is not None
    assert 50 < raised.retry_after.total_seconds() <= 60


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"product-throttle-available": "1"}, None),
        ({"product-throttle-available": "-1"}, None),
        ({"product-throttle-available": "none"}, None),
        ({"product-throttle-available": "0"}, 60),
        ({"product-throttle-available": "0", "product-throttle-interval": "5"}, 300),
        ({"product-throttle-available": "0", "product-throttle-time-unit": "second"}, 1),
        ({"product-throttle-available": "0", "product-throttle-time-unit": "fortnight"}, 60),
        ({"product-quota-available": "0", "product-quota-time-unit": "day"}, 3600),
        ({"tenant-throttle-available": "0", "tenant-throttle-time-unit": "minute"}, 60),
        ({"product-throttle-available": "0", "product-quota-available": "0", "product-quota-time-unit": "day"}, 3600),
    ],
)
def test_what_is_left_is_read_from_every_answer(headers: dict[str, str], seconds: int | None) -> None:
    quota = Quota()
    wait = quota.learn({f"x-keap-{name}": value for name, value in headers.items()})
    assert (round(wait.total_seconds()) if wait else None) == seconds
    if seconds:
        with pytest.raises(RateLimited):
            quota.admit("Keap")
    assert quota.learn({"x-keap-product-throttle-available": "5"}) is None
    quota.admit("Keap")


def test_nothing_is_asked_before_the_first_call(keap: KeapServer) -> None:
    connect(keap)
    assert keap.calls == []


def test_nothing_leaves_after_the_end(keap: KeapServer) -> None:
    api = KeapApi(settings_of(keap))
    late, ended = Exchange(TimeLimit(-1)), Exchange(TimeLimit(60))
    assert ended.end()
    for exchange in (late, ended):
        with pytest.raises(TimeoutError):
            Session(api, exchange).post("/rest/v2/tags", {"name": "late"}, Page)
    assert (keap.calls, keap.crm.tags) == ([], {})
