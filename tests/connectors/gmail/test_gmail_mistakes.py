"""What somebody may write wrongly into a Gmail account's section, and what `orchestrator check` says to change."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.errors import AccessDenied, ConnectorError, Unavailable
from orchestrator.sandbox.gmail import GmailBox, GmailServer, refusal
from orchestrator.testing.http_server import Fault
from orchestrator_connectors.gmail.settings import READ, SEND
from tests.support.certificates import authority
from tests.support.gmail_account import SHOP, account, granted, settings

WIDE = "https://mail.google.com/"


@pytest.fixture(scope="module")
def server() -> Iterator[GmailServer]:
    with GmailServer(GmailBox(SHOP)) as running:
        yield running


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    return tmp_path / "token"


def told(server: GmailServer, token_file: Path, **wrong: Any) -> tuple[type, str]:
    with pytest.raises(ConnectorError) as caught:
        account(server, token_file, **wrong).check()
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    assert not [secret for secret in (SHOP, "ya29.", "1//", "sandbox-client") if secret in said]
    return type(caught.value), said


@pytest.mark.parametrize("setting", ["endpoint_url", "token_url"])
def test_a_wrong_host(server: GmailServer, token_file: Path, setting: str) -> None:
    kind, said = told(server, token_file, **{setting: "https://no-such-host.invalid/token"})
    assert kind is Unavailable
    assert said.endswith(f": there is no such host, correct {setting}")


@pytest.mark.parametrize("setting", ["endpoint_url", "token_url"])
def test_a_port_at_which_nobody_listens(server: GmailServer, token_file: Path, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    kind, said = told(server, token_file, **{setting: f"http://127.0.0.1:{port}"})
    assert kind is Unavailable
    assert said.endswith(f": nobody listens there, correct {setting}")


def test_an_address_that_is_somebody_elses(server: GmailServer, token_file: Path) -> None:
    kind, said = told(server, token_file, endpoint_url=f"{server.url}/elsewhere")
    assert kind is AccessDenied
    assert said.endswith("correct endpoint_url")


@pytest.mark.parametrize("setting", ["endpoint_url", "token_url"])
def test_tls_where_there_is_none(server: GmailServer, token_file: Path, setting: str) -> None:
    kind, said = told(server, token_file, **{setting: server.url.replace("http:", "https:")})
    assert kind is Unavailable
    assert said.endswith(f": it speaks no TLS there, correct {setting}")


@pytest.mark.parametrize("setting", ["endpoint_url", "auth_url", "token_url"])
def test_no_tls_on_the_way_to_another_host(token_file: Path, setting: str) -> None:
    with pytest.raises(ValidationError, match="would travel unprotected: write https://"):
        settings("http://127.0.0.1:1", token_file, **{setting: "http://gmail.example"})


@pytest.mark.parametrize("mistake", ["an unknown authority", "another name"])
def test_a_certificate_that_is_not_trusted(tmp_path: Path, token_file: Path, mistake: str) -> None:
    ca_file, tls = authority(tmp_path)
    with GmailServer(GmailBox(SHOP), tls=tls) as server:
        granted(server, token_file)
        elsewhere = {"ca_file": ca_file, "endpoint_url": server.url.replace("127.0.0.1", "localhost")}
        if mistake == "an unknown authority":
            kind, said = told(server, token_file)
            assert "(self-signed certificate): correct token_url or set ca_file" in said
        else:
            kind, said = told(server, token_file, **elsewhere)
            assert "Hostname mismatch" in said
            assert said.endswith("correct endpoint_url or set ca_file")
    assert kind is AccessDenied


def test_a_wrong_client_secret(server: GmailServer, token_file: Path) -> None:
    app = {"client_id": server.consents.client_id, "client_secret": "wrong", "token_file": token_file}
    kind, said = told(server, token_file, app=app)
    assert kind is AccessDenied
    assert "correct app.client_id and app.client_secret" in said


@pytest.mark.parametrize(("grants", "missing"), [((READ,), SEND), ((SEND,), READ)])
def test_a_scope_that_was_not_granted(
    server: GmailServer, token_file: Path, grants: tuple[str, ...], missing: str
) -> None:
    granted(server, token_file, *grants)
    kind, said = told(server, token_file)
    assert kind is AccessDenied
    assert missing in said
    assert "orchestrator connections authorize NAME" in said


def test_a_wider_scope_is_enough(server: GmailServer, token_file: Path) -> None:
    granted(server, token_file, READ, WIDE)
    assert "it sends as itself" in account(server, token_file).check()


def test_an_endpoint_that_does_not_tell_of_scopes_is_not_asked_twice(server: GmailServer, token_file: Path) -> None:
    granted(server, token_file, READ)
    server.fail_next(Fault(answer=refusal(404, "notFound")), on="tokeninfo")
    assert "it sends as itself" in account(server, token_file).check()


def test_access_that_was_taken_back(server: GmailServer, token_file: Path) -> None:
    refresh_token = granted(server, token_file)
    account(server, token_file).check()
    server.consents.revoke(refresh_token)
    kind, said = told(server, token_file)
    assert kind is AccessDenied
    assert "was revoked or has ended" in said
    assert "orchestrator connections authorize NAME" in said


def test_an_address_that_the_account_may_not_send_as(server: GmailServer, token_file: Path) -> None:
    kind, said = told(server, token_file, address="hello@shop.example")
    assert kind is AccessDenied
    assert "verify the address" in said


def test_a_host_that_does_not_answer(server: GmailServer, token_file: Path) -> None:
    account(server, token_file).check()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        kind, said = told(server, token_file, endpoint_url=url, timeout_seconds=0.3)
    assert kind is Unavailable
    assert said.endswith("took longer than timeout_seconds: correct endpoint_url, or open the firewall")
