"""Logins with a token: servers that ask the token endpoint whose it is, and an endpoint that rotates refresh tokens."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

from orchestrator.capabilities import OutgoingMail
from orchestrator.errors import AccessDenied, ConfigurationError, Unavailable
from orchestrator.plugins.authorization import Authorizable
from orchestrator.sandbox.systems import free_port
from orchestrator.testing.contracts.mailbox import letter
from orchestrator.toolkit.tokens import Tokens, TokenStore
from orchestrator_connectors.mail import ImapSettings, MailAccount, MailSettings, SmtpSettings
from orchestrator_connectors.mail.settings import OAuthSettings
from tests.support.dovecot import DovecotServer
from tests.support.oauth_endpoint import CLIENT, SECRET, OAuthEndpoint

SHOP = "support@shop.example"
SCOPE = "https://mail.example/"
MAIL = OutgoingMail(to="ann@example.com", subject="s", text="t")


class Submission:
    """aiosmtpd's handler: it takes mail from whoever shows a token that opens the account."""

    def __init__(self, endpoint: OAuthEndpoint) -> None:
        self.endpoint = endpoint
        self.taken: list[bytes] = []

    async def auth_XOAUTH2(self, server: SMTP, args: list[str]) -> AuthResult:  # noqa: N802 - aiosmtpd's name
        user, bearer, *_ = base64.b64decode(args[1]).decode().split("\1")
        if user == f"user={SHOP}" and self.endpoint.opens(bearer.removeprefix("auth=Bearer ")):
            return AuthResult(success=True, auth_data=SHOP)
        await server.challenge_auth('{"status":"401"}')
        return AuthResult(success=False, handled=False)

    async def handle_MAIL(  # noqa: N802 - as above
        self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        return "250 OK" if session.authenticated else "530 5.7.0 Authentication required"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802 - as above
        self.taken.append(envelope.original_content)
        return "250 OK"


@pytest.fixture
def endpoint() -> Iterator[OAuthEndpoint]:
    with OAuthEndpoint(SHOP) as running:
        yield running


@pytest.fixture
def submission(endpoint: OAuthEndpoint) -> Iterator[Controller]:
    options: dict[str, Any] = {"auth_require_tls": False, "server_hostname": "localhost"}
    controller = Controller(Submission(endpoint), hostname="127.0.0.1", port=free_port(0), **options)
    controller.start()
    yield controller
    controller.stop()


@pytest.fixture
def tokens(tmp_path: Path) -> TokenStore:
    """A file whose access token has ended."""
    store = TokenStore(path=tmp_path / "tokens.json")
    store.keep(Tokens(access_token="ended", refresh_token="refresh-0", expires_at=datetime(2026, 1, 1, tzinfo=UTC)))
    return store


def oauth(endpoint: OAuthEndpoint, tokens: TokenStore, **changed: Any) -> OAuthSettings:
    fields = {
        "token_url": f"{endpoint.url}/token",
        "auth_url": f"{endpoint.url}/authorize?access_type=offline",
        "client_id": CLIENT,
        "client_secret": SECRET,
        "scope": SCOPE,
        "token_file": tokens.path,
    }
    return OAuthSettings.model_validate(fields | changed)


def account(
    endpoint: OAuthEndpoint, tokens: TokenStore, smtp_port: int, imap_port: int = 9, **changed: Any
) -> MailAccount:
    return MailAccount(
        MailSettings(
            address=SHOP,
            smtp=SmtpSettings(host="127.0.0.1", port=smtp_port, security="plain", username=SHOP),
            imap=ImapSettings(host="127.0.0.1", port=imap_port, security="plain", username=SHOP),
            oauth=oauth(endpoint, tokens, **changed),
            timeout_seconds=10,
        )
    )


def port_of(controller: Controller) -> int:
    assert controller.server is not None
    port: int = controller.server.sockets[0].getsockname()[1]
    return port


def taken(controller: Controller) -> int:
    return len(controller.handler.taken)


def test_a_mail_goes_out_with_a_token_that_is_refreshed_first(
    endpoint: OAuthEndpoint, tokens: TokenStore, submission: Controller
) -> None:
    mailer = account(endpoint, tokens, port_of(submission))
    for number in range(3):
        mailer.send(MAIL, effect_id=f"effect-{number}")
    assert (taken(submission), endpoint.refreshes) == (3, 1)
    assert tokens.read().refresh_token == "refresh-1", "the endpoint takes the old one no longer"


def test_accounts_that_log_in_at_once_refresh_once(
    endpoint: OAuthEndpoint, tokens: TokenStore, submission: Controller
) -> None:
    accounts = [account(endpoint, tokens, port_of(submission)) for _ in range(4)]
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(lambda each: each.send(MAIL), accounts))
    assert (taken(submission), endpoint.refreshes) == (4, 1)


def test_a_token_that_a_server_refuses_is_renewed_for_the_next_login(
    endpoint: OAuthEndpoint, tokens: TokenStore, submission: Controller
) -> None:
    account(endpoint, tokens, port_of(submission)).send(MAIL)
    endpoint.revoke_access()
    mailer = account(endpoint, tokens, port_of(submission))
    with pytest.raises(AccessDenied, match=r"refuses the token: .*connections authorize") as caught:
        mailer.send(MAIL)
    assert "access-1" not in str(caught.value)
    mailer.send(MAIL)
    assert (taken(submission), endpoint.refreshes) == (2, 2)


def test_when_nothing_is_valid_any_more_a_person_authorises_again(
    endpoint: OAuthEndpoint, tokens: TokenStore, submission: Controller
) -> None:
    endpoint.revoke_all()
    mailer = account(endpoint, tokens, port_of(submission))
    assert isinstance(mailer, Authorizable)
    with pytest.raises(AccessDenied, match=r"token endpoint at \S+ refuses"):
        mailer.send(MAIL)
    code = endpoint.code_for(mailer.authorization_url("http://127.0.0.1:1/", "state-1"))
    assert "orchestrator check" in mailer.redeem(code, "http://127.0.0.1:1/")
    mailer.send(MAIL)
    assert taken(submission) == 1


def test_a_scope_that_was_not_granted_is_named_and_nothing_is_kept(
    endpoint: OAuthEndpoint, tokens: TokenStore, submission: Controller
) -> None:
    mailer = account(endpoint, tokens, port_of(submission))
    before = tokens.path.read_bytes()
    for granted in ("openid", "other.scope"):
        endpoint.scope = granted
        code = endpoint.code_for(mailer.authorization_url("http://127.0.0.1:1/", "state-1"))
        with pytest.raises(AccessDenied, match=f"^{SCOPE} was not granted: start again, and tick every box$"):
            mailer.redeem(code, "http://127.0.0.1:1/")
    assert tokens.path.read_bytes() == before
    endpoint.scope = f"openid {SCOPE.upper()}"
    code = endpoint.code_for(mailer.authorization_url("http://127.0.0.1:1/", "state-1"))
    assert "orchestrator check" in mailer.redeem(code, "http://127.0.0.1:1/")


def test_a_check_says_what_to_do_about_a_token_that_is_refused(
    endpoint: OAuthEndpoint, tokens: TokenStore, submission: Controller
) -> None:
    mailer = account(endpoint, tokens, port_of(submission))
    mailer.send(MAIL)
    endpoint.revoke_all()
    with pytest.raises(AccessDenied, match=r"oauth\.scope what the provider asks for, and run: orchestrator"):
        mailer.check()
    with pytest.raises(AccessDenied, match="to authorise again, run: orchestrator connections authorize"):
        mailer.check()


def test_a_token_endpoint_that_is_away_has_sent_nothing(tokens: TokenStore, submission: Controller) -> None:
    with OAuthEndpoint(SHOP) as gone:
        pass
    with pytest.raises(Unavailable, match=r"check oauth\.token_url and the network") as caught:
        account(gone, tokens, port_of(submission)).send(MAIL)
    assert caught.value.no_effect is True
    assert not taken(submission)


def test_an_account_with_a_password_has_nothing_to_authorise() -> None:
    mailer = MailAccount(MailSettings(address=SHOP, smtp=SmtpSettings(host="127.0.0.1")))
    with pytest.raises(ConfigurationError, match="nothing to authorise"):
        mailer.authorization_url("http://127.0.0.1:1/", "s")


@pytest.mark.parametrize("password", ["", "secret"])
def test_each_login_has_one_proof(endpoint: OAuthEndpoint, tokens: TokenStore, password: str) -> None:
    given = {"password": password} if password else {}
    smtp = SmtpSettings(host="127.0.0.1", security="plain", port=25)
    imap = ImapSettings.model_validate({"host": "127.0.0.1", "security": "plain", "username": SHOP} | given)
    proofs = oauth(endpoint, tokens) if password else None
    with pytest.raises(ValueError, match=r"imap\.username needs either imap\.password, or"):
        MailSettings(address=SHOP, smtp=smtp, imap=imap, oauth=proofs)


DOVECOT = """
auth_mechanisms = xoauth2
passdb {{
  driver = oauth2
  mechanisms = xoauth2
  args = {file}
}}
"""


@pytest.fixture
def imap_server(endpoint: OAuthEndpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DovecotServer]:
    folder = tmp_path_factory.mktemp("dovecot")
    for part in (folder, *folder.parents[:3]):
        part.chmod(0o755)
    file = folder / "oauth2.conf"
    file.write_text(f"tokeninfo_url = {endpoint.url}/tokeninfo?access_token=\nusername_attribute = email\n")
    file.chmod(0o644)  # Dovecot's processes are another user's
    with DovecotServer(passwords=DOVECOT.format(file=file)) as running:
        yield running


def test_mail_comes_in_and_is_watched_with_a_token(
    endpoint: OAuthEndpoint, tokens: TokenStore, imap_server: DovecotServer
) -> None:
    imap_server.put(SHOP, letter(1))
    mailbox = account(endpoint, tokens, 9, imap_server.port)
    assert [mail.raw for mail in mailbox.new_mail(None, limit=10).mails] == [letter(1)]
    watch = mailbox.watch()
    assert len(watch.new_mail(None, limit=10).mails) == 1
    assert not watch.wait(timedelta(0))
    watch.close()
    assert endpoint.refreshes == 1


def test_an_imap_server_that_refuses_a_token_gets_a_newer_one_next_time(
    endpoint: OAuthEndpoint, tokens: TokenStore, imap_server: DovecotServer
) -> None:
    mailbox = account(endpoint, tokens, 9, imap_server.port)
    mailbox.position()
    endpoint.revoke_access()
    with pytest.raises(AccessDenied, match="refuses the token"):
        mailbox.position()
    assert mailbox.position()
    assert endpoint.refreshes == 2
