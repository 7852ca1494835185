"""The credential: what an installed app was granted, or a service account's key; renewed by one at a time."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from threading import Lock
from typing import Protocol, cast

from google.auth.exceptions import GoogleAuthError
from google.auth.transport import Request
from google.oauth2 import credentials as installed
from google.oauth2 import service_account

from orchestrator.errors import AccessDenied
from orchestrator.toolkit.tokens import Tokens, TokenStore
from orchestrator_connectors.gmail.failures import not_granted
from orchestrator_connectors.gmail.settings import SCOPES, AppSettings, GmailSettings, ServiceAccountSettings


class Access(Protocol):
    """Gives access tokens. Both methods raise ``AccessDenied`` if only a person can help."""

    def token(self, ask: Request) -> str:
        """Return an access token, renewed through ``ask`` if it is about to end."""

    def renewed(self, refused: str, ask: Request) -> str:
        """Return another token than the one that Gmail has just refused."""


def access(settings: GmailSettings) -> Access:
    """Choose the kind of credential that the settings name."""
    if settings.app is not None:
        return _InstalledApp(settings.app, settings.token_url)
    if settings.service_account is not None:
        return _ServiceAccount(settings.service_account, settings)
    raise AccessDenied("this connection has no credential: add its section app or service_account")


class _InstalledApp:
    """What a person granted; it lies in a file, so that all processes renew it together."""

    def __init__(self, app: AppSettings, token_url: str) -> None:
        self._app = app
        self._token_url = token_url
        self._store = TokenStore(path=app.token_file)

    def token(self, ask: Request) -> str:
        return self._store.fresh(lambda tokens: self._refreshed(tokens, ask)).access_token

    def renewed(self, refused: str, ask: Request) -> str:
        tokens = self._store.read()
        if tokens.access_token == refused:
            tokens = self._store.renewed(tokens, lambda held: self._refreshed(held, ask))
        return tokens.access_token

    def _refreshed(self, tokens: Tokens, ask: Request) -> Tokens:
        credentials = installed.Credentials(  # type: ignore[no-untyped-call]  # google-auth is typed in part
            None,
            refresh_token=tokens.refresh_token,
            token_uri=self._token_url,
            client_id=self._app.client_id,
            client_secret=self._app.client_secret.get_secret_value(),
        )
        _refresh(credentials, ask)
        # Google always says when it ends; without a word of it, a token would serve once.
        ends = credentials.expiry.replace(tzinfo=UTC) if credentials.expiry else datetime.now(UTC)
        return Tokens(access_token=credentials.token, refresh_token=credentials.refresh_token, expires_at=ends)


class _ServiceAccount:
    """A key of our own: each process signs for itself."""

    def __init__(self, account: ServiceAccountSettings, settings: GmailSettings) -> None:
        self._account = account
        self._user = account.user or settings.sender.addr_spec
        self._token_url = settings.token_url
        self._held: service_account.Credentials | None = None
        self._renewing = Lock()

    def token(self, ask: Request) -> str:
        return self.renewed("", ask)

    def renewed(self, refused: str, ask: Request) -> str:
        with self._renewing:
            if self._held is None or not self._held.valid or self._held.token == refused:
                self._held = None
                credentials = self._signer()
                _refresh(credentials, ask)
                self._held = credentials
            return str(self._held.token)

    def _signer(self) -> service_account.Credentials:
        """Read the key again each time: it may have been exchanged."""
        try:
            key = {**json.loads(self._account.key_file.read_bytes()), "token_uri": self._token_url}
            signer = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
                key, scopes=SCOPES, subject=self._user
            )
        except (OSError, ValueError, TypeError, GoogleAuthError) as exc:
            raise AccessDenied(
                f"service_account.key_file holds no service account's key ({type(exc).__name__}): download it as JSON"
            ) from exc
        return cast("service_account.Credentials", signer)


def _refresh(credentials: installed.Credentials | service_account.Credentials, ask: Request) -> None:
    try:
        # Not before_request(), which may ask Google's other services as well.
        credentials.refresh(ask)  # type: ignore[no-untyped-call]  # google-auth is typed in part
    except GoogleAuthError as exc:
        raise not_granted(exc) from exc
