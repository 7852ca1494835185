"""The credential of a Keap account: a key, or an app's tokens that are refreshed here."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from typing import Protocol
from urllib.parse import urlencode

import httpx

from orchestrator.errors import AccessDenied, ConfigurationError, Rejected
from orchestrator.toolkit.http import HttpSettings, HttpSystem
from orchestrator.toolkit.tokens import Tokens, TokenStore, tokens_from
from orchestrator_connectors.keap.settings import KeapSettings

_KEY_HEADER = "X-Keap-API-Key"


class Access(Protocol):
    """How calls are signed."""

    def headers(self) -> dict[str, str]:
        """Return what signs a call now."""

    def renewed(self, refused: dict[str, str]) -> dict[str, str]:
        """Return what signs a call after Keap has refused those headers.

        Raises:
            AccessDenied: There is nothing else: a person must see to it.
        """


class KeyAccess:
    """A personal access token or a service account key."""

    def __init__(self, key: str) -> None:
        self._key = key

    def headers(self) -> dict[str, str]:
        """Return the key."""
        return {_KEY_HEADER: self._key}

    def renewed(self, refused: dict[str, str]) -> dict[str, str]:  # noqa: ARG002 - there is only one
        """Refuse: a key is good or it is not."""
        raise AccessDenied("Keap refuses api_key: make a new one in Keap under Settings, API")


class AppAccess:
    """An app of Keap's developer portal that a person has authorised.

    Each refresh gives a new refresh token and ends the old one (developer.keap.com/getting-started-oauth-keys).

    Args:
        settings: The app, and where its tokens lie.
    """

    def __init__(self, settings: KeapSettings) -> None:
        if settings.client_id is None or settings.client_secret is None or settings.token_file is None:
            raise ConfigurationError("this connection has an api_key; only an app (client_id) is authorised")
        self._settings = settings
        self._client = (settings.client_id, settings.client_secret.get_secret_value())
        self._store = TokenStore(path=settings.token_file)
        endpoint = HttpSettings(
            base_url=settings.token_url, ca_file=settings.ca_file, timeout_seconds=self._store.patience.total_seconds()
        )
        self._endpoint = HttpSystem("Keap's token endpoint", endpoint, setting="token_url")

    def headers(self) -> dict[str, str]:
        """Return an access token that is valid for a while."""
        return _bearer(self._store.fresh(self._refresh))

    def renewed(self, refused: dict[str, str]) -> dict[str, str]:
        """Refresh the access token, unless somebody has done so already."""
        tokens = self._store.read()
        return _bearer(self._store.renewed(tokens, self._refresh) if _bearer(tokens) == refused else tokens)

    def authorization_url(self, redirect_uri: str, state: str) -> str:
        """Return the page on which a person lets the app in."""
        question = {
            "client_id": self._client[0],
            "redirect_uri": self._redirect_uri(redirect_uri),
            "response_type": "code",
            "scope": "full",
            "state": state,
        }
        return f"{self._settings.authorize_url}?{urlencode(question)}"

    def redeem(self, code: str, redirect_uri: str) -> str:
        """Exchange a code for the first tokens, and keep them."""
        form = {
            "client_id": self._client[0],
            "client_secret": self._client[1],
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri(redirect_uri),
        }
        self._store.keep(self._ask(form, None))
        return f"Keap lets the app in; its tokens are kept in {self._store.path}"

    def _redirect_uri(self, given: str) -> str:
        return self._settings.redirect_uri or given

    def _refresh(self, before: Tokens) -> Tokens:
        return self._ask({"grant_type": "refresh_token", "refresh_token": before.refresh_token}, before)

    def _ask(self, form: dict[str, str], before: Tokens | None) -> Tokens:
        """Ask for tokens, with more time than an operation has: the answer may be the only valid refresh token."""
        now, headers = datetime.now(UTC), {"Content-Type": "application/x-www-form-urlencoded"}
        if before:
            headers["Authorization"] = f"Basic {b64encode(':'.join(self._client).encode()).decode()}"
        try:
            answer = self._endpoint.send("POST", "", body=urlencode(form).encode(), headers=headers, writes=False)
        except (AccessDenied, Rejected) as error:
            what = "this refresh token" if before else "this code"
            raise AccessDenied(
                f"{error}: {what} is spent, revoked, or of another app, or client_secret is wrong"
            ) from error
        return tokens_from(_json(answer), now=now, before=before)


def _bearer(tokens: Tokens) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens.access_token}"}


def _json(answer: httpx.Response) -> object:
    try:
        return answer.json()
    except ValueError:
        return None
