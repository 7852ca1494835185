from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from orchestrator.cli.loopback import Loopback
from orchestrator.errors import AccessDenied, ConfigurationError, RateLimited, Unavailable
from orchestrator.plugins.authorization import Authorizable
from orchestrator.sandbox.keap import KeapServer
from orchestrator.testing.faults import FaultProxy
from orchestrator.testing.http_server import Answer, Fault
from orchestrator.toolkit.tokens import TokenStore
from orchestrator_connectors.keap import KeapAccount
from tests.support.keap_account import ANNA, account, connect, connect_app, raised_by

HERE = "http://127.0.0.1:1/"


@pytest.fixture
def keap() -> Iterator[KeapServer]:
    with account() as server:
        yield server


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens" / "crm.json"


@pytest.fixture
def crm(keap: KeapServer, file: Path) -> KeapAccount:
    return connect_app(keap, file)


def expire(file: Path) -> None:
    """Let the access token be about to end, as far as we know."""
    store = TokenStore(path=file)
    store.keep(store.read().model_copy(update={"expires_at": datetime.now(UTC) + timedelta(seconds=60)}))


def test_an_access_token_that_is_about_to_end_is_refreshed_once(keap: KeapServer, crm: KeapAccount, file: Path) -> None:
    expire(file)
    for _ in range(3):
        assert len(crm.purchases_of(ANNA)) == 1
    assert (keap.gate.refreshes, keap.gate.refused_refreshes) == (1, 0)
    assert TokenStore(path=file).read().expires_at > datetime.now(UTC) + timedelta(hours=23)


def test_an_access_token_that_ends_in_the_middle_is_refreshed_once(keap: KeapServer, crm: KeapAccount) -> None:
    crm.purchases_of(ANNA)
    keap.gate.end_access_tokens()
    receipt = crm.note(ANNA, "x", effect_id="e-1")
    assert [note["id"] for note in keap.crm.notes.values()] == [receipt.reference]
    assert (keap.gate.refreshes, keap.gate.refused_refreshes) == (1, 0)


def test_many_calls_refresh_once(keap: KeapServer, file: Path) -> None:
    crms = [connect_app(keap, file, authorized=number == 0) for number in range(8)]
    for _ in range(3):
        keap.gate.end_access_tokens()
        with ThreadPoolExecutor(8) as threads:
            assert [len(found) for found in threads.map(lambda crm: crm.purchases_of(ANNA), crms)] == [1] * 8
    assert (keap.gate.refreshes, keap.gate.refused_refreshes) == (3, 0)


def test_access_that_was_taken_away_is_told_to_a_person(keap: KeapServer, crm: KeapAccount) -> None:
    keap.gate.revoke()
    raised = raised_by(lambda: crm.purchases_of(ANNA))
    assert type(raised) is AccessDenied
    assert "revoked, or of another app, or client_secret is wrong; to authorise again, run: orchestrator" in str(raised)
    assert type(raised_by(lambda: crm.note(ANNA, "x", effect_id="e"))) is AccessDenied


def test_a_second_refusal_is_not_followed_by_a_third_try(keap: KeapServer, crm: KeapAccount) -> None:
    for _ in range(2):
        keap.refuse(401, on="/crm")
    assert type(raised_by(lambda: crm.purchases_of(ANNA))) is AccessDenied
    assert (len(keap.calls), keap.gate.refreshes) == (2 + 1, 1), "it is asked for a token in between"


def test_a_key_that_is_refused_is_told_to_a_person(keap: KeapServer) -> None:
    crm = connect(keap, api_key="another")
    raised = raised_by(lambda: crm.purchases_of(ANNA))
    assert type(raised) is AccessDenied
    assert "make a new one" in str(raised)
    assert len(keap.calls) == 1


def test_nobody_has_authorised_it_yet(keap: KeapServer, file: Path) -> None:
    raised = raised_by(connect_app(keap, file, authorized=False).check)
    assert type(raised) is AccessDenied
    assert "nobody has authorised this connection" in str(raised)


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_token_endpoint_that_fails_changes_nothing(
    keap: KeapServer, crm: KeapAccount, file: Path, status: int
) -> None:
    before = TokenStore(path=file).read()
    keap.gate.end_access_tokens()
    keap.refuse(status, on="/token")
    raised = raised_by(lambda: crm.note(ANNA, "x", effect_id="e"))
    assert type(raised) is (RateLimited if status == 429 else Unavailable)
    assert raised.no_effect
    assert TokenStore(path=file).read() == before
    assert len(crm.purchases_of(ANNA)) == 1


@pytest.mark.parametrize(
    "body", [b"", b"<html>s3cret</html>", {"access_token": "s3cret\n"}, {"access_token": "s3crét"}]
)
def test_a_token_endpoint_that_answers_nonsense_changes_nothing(
    keap: KeapServer, crm: KeapAccount, file: Path, body: object
) -> None:
    before = TokenStore(path=file).read()
    keap.gate.end_access_tokens()
    keap.fail_next(Fault(answer=Answer(200, body)), on="/token")
    assert type(raised_by(lambda: crm.purchases_of(ANNA))) is Unavailable
    assert TokenStore(path=file).read() == before


def test_a_token_endpoint_that_cannot_be_reached_is_unavailable(keap: KeapServer, file: Path) -> None:
    host, port = keap.url.removeprefix("http://").split(":")
    with FaultProxy(host, int(port)) as network:
        crm = connect_app(keap, file, token_url=f"http://127.0.0.1:{network.port}/token")
        expire(file)
        network.lose_request(at=b"grant_type")
        raised = raised_by(lambda: crm.note(ANNA, "x", effect_id="e"))
        assert (type(raised), raised.no_effect) == (Unavailable, True)
        assert len(crm.purchases_of(ANNA)) == 1


def test_a_refresh_outlives_the_call_that_needed_it(keap: KeapServer, file: Path) -> None:
    """Its answer is the only valid refresh token there is."""
    host, port = keap.url.removeprefix("http://").split(":")
    with FaultProxy(host, int(port)) as network:
        slow = connect_app(keap, file, token_url=f"http://127.0.0.1:{network.port}/token", timeout_seconds=0.3)
        expire(file)
        network.trickle_answer(after=b"grant_type", pause=0.002)
        assert type(raised_by(lambda: slow.purchases_of(ANNA))) is Unavailable
        quick = connect_app(keap, file, authorized=False)
        assert len(quick.purchases_of(ANNA)) == 1
    assert (keap.gate.refreshes, keap.gate.refused_refreshes) == (1, 0)


def test_a_person_lets_the_app_in(keap: KeapServer, file: Path) -> None:
    crm = connect_app(keap, file, authorized=False)
    assert isinstance(crm, Authorizable)
    code, state = granted(crm.authorization_url(HERE, "s-1"))
    said = crm.redeem(code, HERE)
    assert state == "s-1"
    assert said == f"Keap lets the app in; its tokens are kept in {file}"
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(crm.purchases_of(ANNA)) == 1


def granted(url: str) -> tuple[str, str]:
    """Grant access as a browser does, and read what it is sent back with."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_arguments: object) -> None:
            return None

    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.build_opener(Stay).open(url)
    with caught.value as answer:
        query = parse_qs(urlsplit(answer.headers["Location"]).query)
    return query["code"][0], query["state"][0]


def test_a_browser_brings_the_code_to_this_machine(keap: KeapServer, file: Path) -> None:
    crm = connect_app(keap, file, authorized=False)
    with Loopback("s-1") as loopback:
        with urllib.request.urlopen(crm.authorization_url(loopback.redirect_uri, loopback.state), timeout=10) as page:
            assert page.status == 200
        crm.redeem(loopback.wait(timedelta(seconds=10)), loopback.redirect_uri)
    assert len(crm.purchases_of(ANNA)) == 1


def test_a_code_serves_once_and_for_its_own_address(keap: KeapServer, file: Path) -> None:
    crm = connect_app(keap, file, authorized=False)
    code, _ = granted(crm.authorization_url(HERE, "s-1"))
    for _ in range(2):
        raised = raised_by(lambda: crm.redeem(code, "http://127.0.0.1:2/"))
        assert "this code is spent, revoked, or of another app" in str(raised)
    assert not file.exists()


def test_an_app_with_an_address_of_its_own_is_granted_there(keap: KeapServer, file: Path) -> None:
    crm = connect_app(keap, file, authorized=False, redirect_uri="https://shop.example/keap")
    url = crm.authorization_url(HERE, "s-1")
    assert parse_qs(urlsplit(url).query)["redirect_uri"] == ["https://shop.example/keap"]
    code, _ = granted(url)
    crm.redeem(code, HERE)
    assert file.exists()


def test_a_key_is_not_granted(keap: KeapServer) -> None:
    with pytest.raises(ConfigurationError, match="has an api_key"):
        connect(keap).authorization_url(HERE, "s-1")
