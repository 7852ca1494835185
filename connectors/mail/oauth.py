"""Logins with an OAuth 2.0 token instead of a password: SASL XOAUTH2, as Google and Microsoft describe it.

https://developers.google.com/workspace/gmail/imap/xoauth2-protocol
"""

from __future__ import annotations

from orchestrator.toolkit.http import HttpSettings
from orchestrator.toolkit.oauth import OAuthAccess, OAuthApp, TokenEndpoint
from orchestrator.toolkit.tokens import AUTHORIZE, Tokens
from orchestrator_connectors.mail.settings import OAuthSettings

TOKEN_REMEDY = f"see that username is the account's and oauth.scope what the provider asks for, and {AUTHORIZE}"
"""What a person does about a token that a mail server refuses."""


class MailTokens:
    """The access tokens of one account, refreshed when they end or were refused.

    Args:
        settings: Who we are to the token endpoint.
        timeout_seconds: Total time for one call of it.
    """

    def __init__(self, settings: OAuthSettings, *, timeout_seconds: float) -> None:
        reached = HttpSettings(base_url=settings.token_url, ca_file=settings.ca_file, timeout_seconds=timeout_seconds)
        endpoint = TokenEndpoint(
            "token endpoint", reached, setting="oauth.token_url", secrets="oauth.client_id or client_secret"
        )
        app = OAuthApp(
            client_id=settings.client_id,
            client_secret=settings.client_secret,
            authorize_url=settings.auth_url,
            scope=settings.scope,
        )
        self.access = OAuthAccess(app, settings.token_file, endpoint)
        self._refused: Tokens | None = None

    def tokens(self) -> Tokens:
        """Return tokens that no server has refused yet.

        Raises:
            AccessDenied: There are none, and none are given any more: a person must authorise again.
            Unavailable: The token endpoint cannot be asked; without effect on any mail.
        """
        tokens = self.access.fresh()
        return self.access.renewed(tokens) if tokens == self._refused else tokens

    def refused(self, tokens: Tokens) -> None:
        """Note that a server refused these: the next login is tried with newer ones."""
        self._refused = tokens


def proof(username: str, tokens: Tokens) -> str:
    """Return what proves the account at a login, before it is coded for the wire."""
    return f"user={username}\1auth=Bearer {tokens.access_token}\1\1"
