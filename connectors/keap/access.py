"""The credential of a Keap account: a key, or an app's tokens that are refreshed here."""

from __future__ import annotations

from typing import Protocol

from orchestrator.errors import AccessDenied, ConfigurationError
from orchestrator.toolkit.http import HttpSettings
from orchestrator.toolkit.oauth import OAuthAccess, OAuthApp, TokenEndpoint
from orchestrator.toolkit.tokens import Tokens
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
        self._redirect_uri = settings.redirect_uri
        app = OAuthApp(
            client_id=settings.client_id,
            client_secret=settings.client_secret,
            authorize_url=settings.authorize_url,
            more={"scope": "full"},  # it answers with another name of that
            pkce=False,
        )
        # It has more time than an operation: the answer may hold the only valid refresh token.
        reached = HttpSettings(base_url=settings.token_url, ca_file=settings.ca_file, timeout_seconds=60)
        endpoint = TokenEndpoint(
            "Keap's token endpoint", reached, setting="token_url", secrets="client_secret", basic_refresh=True
        )
        self._access = OAuthAccess(app, settings.token_file, endpoint)

    def headers(self) -> dict[str, str]:
        """Return an access token that is valid for a while."""
        return _bearer(self._access.fresh())

    def renewed(self, refused: dict[str, str]) -> dict[str, str]:
        """Refresh the access token, unless somebody has done so already."""
        tokens = self._access.store.read()
        return _bearer(self._access.renewed(tokens) if _bearer(tokens) == refused else tokens)

    def authorization_url(self, redirect_uri: str, state: str) -> str:
        """Return the page on which a person lets the app in."""
        return self._access.authorization_url(self._redirect_uri or redirect_uri, state)

    def redeem(self, code: str, redirect_uri: str) -> str:
        """Exchange a code for the first tokens, and keep them."""
        self._access.redeem(code, self._redirect_uri or redirect_uri)
        return f"Keap lets the app in; its tokens are kept in {self._access.store.path}"


def _bearer(tokens: Tokens) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens.access_token}"}
