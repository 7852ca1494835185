"""Access that a person grants to an app in a browser: the OAuth 2.0 authorization code grant (RFC 6749 4.1)."""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlencode

from pydantic import SecretStr

from orchestrator.errors import AccessDenied
from orchestrator.toolkit.http import HttpSettings, HttpSystem, refusal
from orchestrator.toolkit.tokens import Tokens, TokenStore, tokens_from

Ask = Callable[[dict[str, str]], object]
"""Sends a form to a token endpoint, and returns the JSON that it answered; ``AccessDenied`` if it refuses."""

_REFUSED = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
"""RFC 6749 5.2 names the first two."""
_UNSAID = frozenset({"offline_access", "openid", "profile", "email"})
"""Scopes that some endpoints grant and leave out of their answer."""


@dataclass(frozen=True, kw_only=True)
class OAuthApp:
    """An app, as it is registered with a vendor.

    Args:
        client_id: Names it.
        client_secret: Proves it; an app without one is proved by PKCE alone.
        authorize_url: Where a person grants access; it may have a query.
        scope: What is asked for. An answer that names other scopes is refused.
        more: What else the vendor wants to be told in the address.
        pkce: Whether only who asked for a code can redeem it (RFC 7636).
    """

    client_id: str
    client_secret: SecretStr | None
    authorize_url: str
    scope: str = ""
    more: Mapping[str, str] = field(default_factory=dict)
    pkce: bool = True


class OAuthAccess:
    """The access of one connection. Its tokens are in a file, so that all processes refresh them together.

    Args:
        app: Who asks for it.
        file: Where the tokens are kept.
        ask: Asks the token endpoint.
    """

    def __init__(self, app: OAuthApp, file: Path, ask: Ask) -> None:
        self.store = TokenStore(path=file)
        self._app = app
        self._ask = ask
        self._verifier = ""

    def authorization_url(self, redirect_uri: str, state: str) -> str:
        """Return the page on which a person grants access; only this object can redeem the code."""
        app = self._app
        asked = {"response_type": "code", "client_id": app.client_id, "redirect_uri": redirect_uri, "state": state}
        if app.scope:
            asked["scope"] = app.scope
        if app.pkce:
            self._verifier = secrets.token_urlsafe(64)
            digest = hashlib.sha256(self._verifier.encode()).digest()
            asked["code_challenge"] = urlsafe_b64encode(digest).rstrip(b"=").decode()
            asked["code_challenge_method"] = "S256"
        return f"{app.authorize_url}{'&' if '?' in app.authorize_url else '?'}{urlencode(asked | dict(app.more))}"

    def redeem(self, code: str, redirect_uri: str) -> None:
        """Exchange the code for tokens, and keep them.

        Raises:
            AccessDenied: The code is refused, or less was granted than was asked for.
        """
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        if self._app.pkce:
            form["code_verifier"] = self._verifier
        self.store.keep(self._granted(form))

    def fresh(self) -> Tokens:
        """Return tokens that are valid for a while."""
        return self.store.fresh(self._refreshed)

    def renewed(self, refused: Tokens) -> Tokens:
        """Return newer tokens than those that the system has just refused."""
        return self.store.renewed(refused, self._refreshed)

    def _refreshed(self, before: Tokens) -> Tokens:
        return self._granted({"grant_type": "refresh_token", "refresh_token": before.refresh_token}, before)

    def _granted(self, form: dict[str, str], before: Tokens | None = None) -> Tokens:
        secret = self._app.client_secret
        form["client_id"] = self._app.client_id
        if secret is not None:
            form["client_secret"] = secret.get_secret_value()
        now = datetime.now(UTC)
        answer = self._ask(form)
        if before is None:
            self._see_all_granted(answer)
        return tokens_from(answer, now=now, before=before)

    def _see_all_granted(self, answer: object) -> None:
        """See that a person granted all that was asked for; an endpoint that says nothing granted it (RFC 6749 5.1)."""
        named = answer.get("scope") if isinstance(answer, dict) else None
        granted = {scope.casefold() for scope in str(named).split()}
        missing = [scope for scope in self._app.scope.split() if scope.casefold() not in granted | _UNSAID]
        if named is not None and missing:
            raise AccessDenied(f"{' and '.join(missing)} was not granted: start again, and tick every box")


class TokenEndpoint:
    """A token endpoint, over HTTP.

    Args:
        name: How messages name it.
        settings: Where it is, and how long it may take: its answer may hold the only valid refresh token.
        setting: How the connection's section names the address, for messages.
        secrets: How it names what proves the app, for messages.
        basic_refresh: Whether the app is proved in a header when it refreshes (RFC 6749 2.3.1), instead of the form.
    """

    def __init__(
        self, name: str, settings: HttpSettings, *, setting: str, secrets: str, basic_refresh: bool = False
    ) -> None:
        self._system = HttpSystem(name, settings, setting=setting)
        self._setting = setting
        self._secrets = secrets
        self._basic_refresh = basic_refresh

    def __call__(self, form: dict[str, str]) -> object:
        """Ask, and return the JSON that was answered; None if it is no JSON."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        what = "refresh token" if "refresh_token" in form else "code"
        if self._basic_refresh and "refresh_token" in form:
            proof = b64encode(f"{form.pop('client_id')}:{form.pop('client_secret')}".encode()).decode()
            headers["Authorization"] = f"Basic {proof}"
        answer = self._system.operation(
            lambda exchange: self._system.ask(
                exchange, "POST", "", body=urlencode(form).encode(), headers=headers, writes=False
            )
        )
        if answer.status_code in _REFUSED:
            raise AccessDenied(
                f"{self._system.place} refuses (status {answer.status_code}): this {what} is spent, revoked, or of "
                f"another app, or {self._secrets} is wrong"
            )
        if not answer.is_success:
            raise refusal(answer, self._system.place, writes=False, setting=self._setting)
        try:
            return answer.json()
        except ValueError:
            return None
