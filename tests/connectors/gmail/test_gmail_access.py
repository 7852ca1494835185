"""How the gmail connector comes by its access, keeps it, and what it says when it has none."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pydantic import ValidationError

from orchestrator.bootstrap import Application, use
from orchestrator.capabilities import OutgoingMail
from orchestrator.errors import AccessDenied, ConfigurationError, Unavailable
from orchestrator.sandbox.gmail import GmailBox, GmailServer, refusal
from orchestrator.testing.http_server import Answer, Fault
from orchestrator_connectors.gmail import GmailAccount
from orchestrator_connectors.gmail.settings import READ, SCOPES, SEND
from tests.support.configurations import load
from tests.support.console import Console
from tests.support.gmail_account import ANN, SHOP, account, granted, settings
from tests.support.paths import ROOT

MAIL = OutgoingMail(to=ANN, subject="Your download", text="Here it is.")
REDIRECT = "http://127.0.0.1:8765/"
ROBOT = "mail@shop-project.iam.gserviceaccount.com"


@pytest.fixture
def server() -> Iterator[GmailServer]:
    with GmailServer(GmailBox(SHOP)) as running:
        yield running


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    return tmp_path / "tokens" / "support"


@pytest.fixture(scope="module")
def robot_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def browse(url: str) -> dict[str, str]:
    """Open the consent screen; return what comes back to the loopback address."""
    try:
        urllib.request.build_opener(_Stay).open(url, timeout=10)
    except urllib.error.HTTPError as redirect:
        with redirect:
            target = urlsplit(redirect.headers.get("Location", ""))
    return {name: values[0] for name, values in parse_qs(target.query).items()}


def test_a_person_grants_access_and_the_token_is_kept_for_its_owner_alone(
    server: GmailServer, token_file: Path
) -> None:
    gmail = GmailAccount(settings(server.url, token_file))
    with pytest.raises(AccessDenied, match="run: orchestrator connections authorize"):
        gmail.position()
    answer = browse(gmail.authorization_url(REDIRECT, "the-state"))
    assert answer.pop("state") == "the-state"
    said = gmail.redeem(answer["code"], REDIRECT)
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
    assert str(token_file) in said
    gmail.send(MAIL)
    assert len(server.box.mails) == 1
    assert server.consents.redeemed == 1
    assert server.consents.refreshed == 0, "the first access token came with the code"


def test_what_the_consent_screen_is_asked_for(server: GmailServer, token_file: Path) -> None:
    gmail = GmailAccount(settings(server.url, token_file))
    first, second = (parse_qs(urlsplit(gmail.authorization_url(REDIRECT, "s")).query) for _ in range(2))
    assert first["scope"] == [" ".join(SCOPES)]
    assert (first["access_type"], first["prompt"]) == (["offline"], ["consent"])
    assert first["code_challenge"] != second["code_challenge"]
    assert "sandbox-client" not in str(first), "the secret stays here"


def test_a_code_without_its_verifier_is_worth_nothing(server: GmailServer, token_file: Path) -> None:
    stolen = browse(GmailAccount(settings(server.url, token_file)).authorization_url(REDIRECT, "s"))["code"]
    thief = GmailAccount(settings(server.url, token_file))
    thief.authorization_url(REDIRECT, "s")
    with pytest.raises(AccessDenied, match="invalid_grant"):
        thief.redeem(stolen, REDIRECT)
    assert not token_file.exists()


def test_a_code_serves_once_and_for_its_own_address(server: GmailServer, token_file: Path) -> None:
    gmail = GmailAccount(settings(server.url, token_file))
    code = browse(gmail.authorization_url(REDIRECT, "s"))["code"]
    with pytest.raises(AccessDenied, match="invalid_grant"):
        gmail.redeem(code, "http://127.0.0.1:1/")
    code = browse(gmail.authorization_url(REDIRECT, "s"))["code"]
    gmail.redeem(code, REDIRECT)
    with pytest.raises(AccessDenied, match="invalid_grant"):
        gmail.redeem(code, REDIRECT)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_box_that_was_not_ticked_is_named(server: GmailServer, token_file: Path, scope: str) -> None:
    server.consents.unticked = frozenset({scope})
    gmail = GmailAccount(settings(server.url, token_file))
    code = browse(gmail.authorization_url(REDIRECT, "s"))["code"]
    with pytest.raises(AccessDenied) as refused:
        gmail.redeem(code, REDIRECT)
    assert str(refused.value) == f"{scope} was not granted: start again, and tick every box"
    assert not token_file.exists()


CONFIG = """
[store]
url = "sqlite:///{folder}/record.db"
[connections.support]
connector = "gmail"
address = "support@shop.example"
endpoint_url = "{url}"
auth_url = "{url}/o/oauth2/v2/auth"
token_url = "{url}/token"
app = {{client_id = "{client}", client_secret = "sandbox-client", token_file = "{folder}/token"}}
"""


def test_the_command_line_brings_a_persons_grant_to_gmail(
    server: GmailServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = CONFIG.format(folder=tmp_path, url=server.url, client=server.consents.client_id)
    use(Application(load(tmp_path, config)))
    (tmp_path / "config.toml").write_text(config)
    command = [sys.executable, "-m", "orchestrator", "--config", str(tmp_path / "config.toml")]
    with subprocess.Popen(
        [*command, "connections", "authorize", "support"], stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        url = next(line.strip() for line in running.stdout if line.startswith("http"))
        with urllib.request.urlopen(url, timeout=10) as page:  # follows the redirect to the loopback address
            assert page.read() == b"Received. The terminal says what became of it; you can close this page."
        said = running.stdout.read()
    assert running.returncode == 0
    assert said.rstrip().endswith("Now run: orchestrator check")
    checked = Console(capsys)("check", "--json").json
    (seen,) = [row for row in checked["connections"] if row["connection"] == "support"]
    assert seen["works"], seen
    assert "shows an account with 0 messages; it sends as itself" in seen["seen"]


def test_an_access_token_that_ended_is_renewed_once_for_all_threads(server: GmailServer, token_file: Path) -> None:
    gmail = account(server, token_file)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: gmail.position(), range(8)))
    assert server.consents.refreshed == 1
    assert server.calls.count("token") == 1


def test_another_process_uses_the_token_that_was_renewed(server: GmailServer, token_file: Path) -> None:
    account(server, token_file).position()
    account(server, token_file).position()
    assert server.consents.refreshed == 1


def test_a_token_that_was_taken_back_early_is_renewed_and_the_mail_is_sent_once(
    server: GmailServer, token_file: Path
) -> None:
    gmail = account(server, token_file)
    gmail.position()
    server.consents.forget_access()
    server.calls.clear()
    gmail.send(MAIL)
    assert server.calls == ["messages.send", "token", "messages.send"]
    assert len(server.box.mails) == 1


def test_a_token_that_is_never_taken_is_no_reason_to_go_on_for_ever(server: GmailServer, token_file: Path) -> None:
    gmail = account(server, token_file)
    server.fail_next(*[Fault(answer=refusal(401, "authError"))] * 2, on="profile")
    with pytest.raises(AccessDenied, match="run: orchestrator connections authorize"):
        gmail.position()
    assert server.calls.count("profile") == 2


def test_revoked_access_says_what_to_do_and_works_again_once_it_was_granted(
    server: GmailServer, token_file: Path
) -> None:
    refresh_token = granted(server, token_file)
    gmail = account(server, token_file)
    gmail.position()
    server.consents.revoke(refresh_token)
    for _ in range(2):
        with pytest.raises(AccessDenied, match="run: orchestrator connections authorize") as refused:
            gmail.send(MAIL)
        assert refused.value.no_effect
    granted(server, token_file)
    gmail.send(MAIL)
    assert len(server.box.mails) == 1


def test_too_little_access_names_the_scope(server: GmailServer, token_file: Path) -> None:
    granted(server, token_file, READ)
    gmail = account(server, token_file)
    gmail.position()
    with pytest.raises(AccessDenied, match=SEND) as refused:
        gmail.send(MAIL)
    assert refused.value.no_effect


@pytest.mark.parametrize(
    "fault",
    [
        Fault(),
        Fault(answer=Answer(503, b"")),
        Fault(answer=Answer(429, b"{}")),
        Fault(acts=True),
    ],
)
def test_a_token_endpoint_that_fails_is_asked_again_later(server: GmailServer, token_file: Path, fault: Fault) -> None:
    gmail = account(server, token_file)
    server.fail_next(fault, on="token")
    with pytest.raises(Unavailable, match="Google's token endpoint") as failed:
        gmail.send(MAIL)
    assert failed.value.no_effect
    assert server.calls == ["token"], "the library would wait and ask again by itself"
    gmail.send(MAIL)


def test_a_wrong_client_is_named(server: GmailServer, token_file: Path) -> None:
    server.consents.client_secret = "another"
    with pytest.raises(AccessDenied, match=r"correct app\.client_id and app\.client_secret"):
        account(server, token_file).position()


def delegate(server: GmailServer, key: rsa.RSAPrivateKey, folder: Path, *scopes: str) -> dict[str, Any]:
    """Let the domain's administrator delegate; return the settings that use it."""
    server.consents.public_keys[ROBOT] = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    server.consents.delegated[ROBOT] = frozenset(scopes)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    written = {"type": "service_account", "client_email": ROBOT, "private_key": pem, "token_uri": "http://127.0.0.1:9"}
    (folder / "key.json").write_text(json.dumps(written))
    return {"app": None, "service_account": {"key_file": folder / "key.json"}}


def test_a_service_account_acts_for_the_mailbox_that_was_delegated(
    server: GmailServer, tmp_path: Path, robot_key: rsa.RSAPrivateKey
) -> None:
    changes = delegate(server, robot_key, tmp_path, *SCOPES)
    gmail = GmailAccount(settings(server.url, tmp_path / "unused", **changes))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: gmail.position(), range(4)))
    gmail.send(MAIL)
    assert server.consents.refreshed == 1
    assert server.consents.users == [SHOP]
    server.consents.forget_access()
    gmail.position()
    assert server.consents.refreshed == 2
    with pytest.raises(ConfigurationError, match="uses a service account"):
        gmail.authorization_url(REDIRECT, "s")


def test_a_delegation_that_lacks_a_scope_says_what_the_administrator_must_do(
    server: GmailServer, tmp_path: Path, robot_key: rsa.RSAPrivateKey
) -> None:
    changes = delegate(server, robot_key, tmp_path, READ)
    with pytest.raises(AccessDenied, match="delegate to the service account's client id") as refused:
        GmailAccount(settings(server.url, tmp_path / "unused", **changes)).send(MAIL)
    assert refused.value.no_effect


@pytest.mark.parametrize("content", ["", "[]", '{"client_email": "x"}', '{"private_key": "x", "client_email": "x"}'])
def test_a_key_file_that_holds_no_key_is_named(server: GmailServer, tmp_path: Path, content: str) -> None:
    (tmp_path / "key.json").write_text(content)
    changes = {"app": None, "service_account": {"key_file": tmp_path / "key.json"}}
    with pytest.raises(AccessDenied, match=r"service_account\.key_file holds no service account's key"):
        GmailAccount(settings(server.url, tmp_path / "unused", **changes)).position()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"app": None}, "either the section app"),
        ({"service_account": {"key_file": __file__}}, "either the section app"),
        ({"address": "support"}, "write one address"),
        ({"service_account": {"key_file": __file__, "user": "a@b.example, c@d.example"}, "app": None}, "one address"),
        ({"message_id_domain": "no domain"}, "write a domain name"),
        ({"endpoint_url": "gmail.googleapis.com"}, "match pattern"),
        ({"timeout_seconds": 0}, "greater than 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        settings("https://gmail.googleapis.com", tmp_path / "token", **changes)
    assert words in str(refused.value)
    assert "sandbox-client" not in str(refused.value)


def test_building_a_connection_imports_nothing_of_google_and_asks_nobody(tmp_path: Path) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from tests.support.gmail_account import settings
from orchestrator_connectors.gmail import GmailAccount
GmailAccount(settings("http://127.0.0.1:9", Path("{tmp_path}/token"))).settlements["send"]
print([name for name in ("googleapiclient", "google.auth", "httplib2") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_account_that_may_not_send_as_the_address_is_found_by_the_check(
    server: GmailServer, token_file: Path
) -> None:
    gmail = account(server, token_file, address="hello@shop.example")
    for aliases in ({}, {"hello@shop.example": "pending"}):
        server.aliases = aliases
        with pytest.raises(AccessDenied, match="may not send as 'address'"):
            gmail.check()
    server.aliases = {"hello@shop.example": "accepted"}
    assert "it sends as an address that it has verified" in gmail.check()
