"""Logins with an OAuth 2.0 token instead of a password: SASL XOAUTH2, as Google and Microsoft describe it.

https://developers.google.com/workspace/gmail/imap/xoauth2-protocol
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from datetime import UTC, datetime
from urllib.parse import urlencode

from orchestrator.errors import AccessDenied, Rejected, Unavailable
from orchestrator.toolkit.http import HttpSettings, HttpSystem
from orchestrator.toolkit.tokens import AUTHORIZE, Tokens, TokenStore, tokens_from
from orchestrator_connectors.mail.settings import OAuthSettings

TOKEN_REMEDY = f"see that username is the account's and oauth.scope what the provider asks for, and {AUTHORIZE}"
"""What a person does about a token that a mail server refuses."""
_UNSAID = frozenset({"offline_access", "openid", "profile", "email"})
"""Scopes that some endpoints grant and leave out of their answer."""
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class MailTokens:
    """The access tokens of one account, refreshed when they end or were refused.

    Args:
        settings: Who we are to the token endpoint.
        timeout_seconds: Total time for one call of it.
    """

    def __init__(self, settings: OAuthSettings, *, timeout_seconds: float) -> None:
        self._settings = settings
        self._store = TokenStore(path=settings.token_file)
        endpoint = HttpSettings(base_url=settings.token_url, ca_file=settings.ca_file, timeout_seconds=timeout_seconds)
        self._endpoint = HttpSystem("token endpoint", endpoint, setting="oauth.token_url")
        self._refused: Tokens | None = None
        self._verifier = ""

    def tokens(self) -> Tokens:
        """Return tokens that no server has refused yet.

        Raises:
            AccessDenied: There are none, and none are given any more: a person must authorise again.
            Unavailable: The token endpoint cannot be asked; without effect on any mail.
        """
        try:
            tokens = self._store.fresh(self._refresh)
            return self._store.renewed(tokens, self._refresh) if tokens == self._refused else tokens
        except Unavailable as exc:
            raise Unavailable(str(exc), no_effect=True) from exc

    def refused(self, tokens: Tokens) -> None:
        """Note that a server refused these: the next login is tried with newer ones."""
        self._refused = tokens

    def authorization_url(self, redirect_uri: str, state: str) -> str:
        """Say where a person grants access; only this object can redeem the code (RFC 7636)."""
        self._verifier = secrets.token_urlsafe(64)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self._verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "client_id": self._settings.client_id,
            "response_type": "code",
            "scope": self._settings.scope,
            "redirect_uri": redirect_uri,
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        address = self._settings.auth_url
        return f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}"

    def redeem(self, code: str, redirect_uri: str) -> str:
        """Exchange the code for tokens, and keep them."""
        grant = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        self._store.keep(self._granted(grant | {"code_verifier": self._verifier}))
        return f"Access is granted; it is kept in {self._settings.token_file}. Now run: orchestrator check"

    def _refresh(self, before: Tokens) -> Tokens:
        return self._granted({"grant_type": "refresh_token", "refresh_token": before.refresh_token}, before)

    def _granted(self, grant: dict[str, str], before: Tokens | None = None) -> Tokens:
        secret = self._settings.client_secret
        form = grant | {"client_id": self._settings.client_id}
        form |= {"client_secret": secret.get_secret_value()} if secret else {}
        now = datetime.now(UTC)
        try:
            answer = self._endpoint.change("POST", "", urlencode(form).encode(), headers=_FORM)
        except Rejected as exc:
            raise AccessDenied("the token endpoint refuses: check oauth.client_id, client_secret and scope") from exc
        if before is None:
            self._see_all_granted(answer)
        return tokens_from(answer, now=now, before=before)

    def _see_all_granted(self, answer: object) -> None:
        """See that a person granted all that was asked for; an endpoint that says nothing granted it (RFC 6749 5.1)."""
        told = answer.get("scope") if isinstance(answer, dict) else None
        granted = {scope.casefold() for scope in str(told).split()}
        missing = [scope for scope in self._settings.scope.split() if scope.casefold() not in granted | _UNSAID]
        if told is not None and missing:
            raise AccessDenied(f"{' and '.join(missing)} was not granted: start again, and tick every box")


def proof(username: str, tokens: Tokens) -> str:
    """Return what proves the account at a login, before it is coded for the wire."""
    return f"user={username}\1auth=Bearer {tokens.access_token}\1\1"
