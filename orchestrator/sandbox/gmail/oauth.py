"""Google's authorization server: consent, codes with PKCE, refresh, revocation, and service accounts."""

from __future__ import annotations

import hmac
import json
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from threading import RLock
from typing import Any
from urllib.parse import urlencode

from orchestrator.sandbox.gmail.account import Clock
from orchestrator.toolkit.tokens import Tokens, TokenStore

TOKEN_SECONDS = 3599
_CODE_SECONDS = 600
_LONGEST_ASSERTION = 3600
_CLOCK_SLACK = 300


class OAuthRefused(Exception):
    """What the token endpoint refuses (RFC 6749 section 5.2).

    Args:
        error: Its code.
        description: Its words.
    """

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error


@dataclass(frozen=True)
class _Code:
    redirect_uri: str
    challenge: str
    scopes: frozenset[str]
    expires: float


@dataclass
class Consents:
    """Who may do what.

    Args:
        client_id: The registered installed app.
        client_secret: Its secret, which is none in an installed app (RFC 8252 section 8.5).
        delegated: What each service account may do for the domain's users, by the account's address: scopes.
        public_keys: The keys of the service accounts, as PEM.
        clock: Tells the time.
    """

    client_id: str = "sandbox.apps.googleusercontent.com"
    client_secret: str = "sandbox-client"
    delegated: dict[str, frozenset[str]] = field(default_factory=dict)
    public_keys: dict[str, bytes] = field(default_factory=dict)
    clock: Clock = time.time
    denied: bool = False
    """What the person at the consent screen does."""
    unticked: frozenset[str] = frozenset()
    """Scopes that the person does not tick."""
    users: list[str] = field(default_factory=list)
    """For whom service accounts have asked."""
    redeemed: int = 0
    refreshed: int = 0
    _codes: dict[str, _Code] = field(default_factory=dict)
    _granted: dict[str, frozenset[str]] = field(default_factory=dict)
    _access: dict[str, tuple[float, frozenset[str], str]] = field(default_factory=dict)
    _lock: RLock = field(default_factory=RLock)

    def consent(self, query: Mapping[str, str]) -> str:
        """Answer the consent screen as the person does.

        Returns:
            Where the browser goes then.
        """
        wanted = {"client_id": self.client_id, "response_type": "code", "code_challenge_method": "S256"}
        if any(query.get(name) != value for name, value in wanted.items()) or not query.get("code_challenge"):
            raise OAuthRefused("invalid_request", "client_id, response_type or code_challenge is wrong")
        if not query["redirect_uri"].startswith("http://127.0.0.1:"):
            raise OAuthRefused("redirect_uri_mismatch", "an installed app is called on its loopback address")
        if self.denied:
            return f"{query['redirect_uri']}?{urlencode({'error': 'access_denied', 'state': query['state']})}"
        code = secrets.token_urlsafe(24)
        scopes = frozenset(query["scope"].split()) - self.unticked
        self._codes[code] = _Code(query["redirect_uri"], query["code_challenge"], scopes, self.clock() + _CODE_SECONDS)
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def token(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Answer at the token endpoint."""
        with self._lock:
            match form.get("grant_type"):
                case "authorization_code":
                    return self._redeem(form)
                case "refresh_token":
                    return self._refresh(form)
                case "urn:ietf:params:oauth:grant-type:jwt-bearer":
                    return self._assert(form.get("assertion", ""))
                case _:
                    raise OAuthRefused("unsupported_grant_type", "Invalid grant_type")

    def grant(self, *scopes: str) -> str:
        """Let a person have consented before.

        Returns:
            The refresh token.
        """
        refresh_token = f"1//{secrets.token_urlsafe(24)}"
        self._granted[refresh_token] = frozenset(scopes)
        return refresh_token

    def grant_into(self, token_file: Path, *scopes: str) -> str:
        """Let a person have consented before; the access token that is kept has ended since.

        Returns:
            The refresh token.
        """
        refresh_token = self.grant(*scopes)
        ended = datetime.now(UTC) - timedelta(hours=1)
        tokens = Tokens(access_token="ended", refresh_token=refresh_token, expires_at=ended)
        TokenStore(path=token_file).keep(tokens)
        return refresh_token

    def revoke(self, token: str) -> None:
        """Take back a refresh token, and every access token that came of it."""
        with self._lock:
            self._granted.pop(token, None)
            self._access = {access: each for access, each in self._access.items() if token not in {access, each[2]}}

    def revoke_all(self) -> None:
        """Take everything back that was ever granted."""
        self._granted.clear()
        self._access.clear()

    def forget_access(self) -> None:
        """Let all access tokens end before their time; refresh tokens stay."""
        self._access.clear()

    def scopes_of(self, access_token: str) -> frozenset[str] | None:
        """Return what an access token allows; None if it is unknown or over."""
        expires, scopes, _ = self._access.get(access_token, (0.0, frozenset(), ""))
        return scopes if self.clock() < expires else None

    def told_of(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Tell what an access token allows, to whoever holds it."""
        scopes = self.scopes_of(form.get("access_token", ""))
        if scopes is None:
            raise OAuthRefused("invalid_token", "Invalid Value")
        return {"scope": " ".join(sorted(scopes))}

    def _redeem(self, form: Mapping[str, str]) -> dict[str, Any]:
        self._known_client(form)
        code = self._codes.pop(form.get("code", ""), None)  # a code serves once
        if code is None or self.clock() >= code.expires or form.get("redirect_uri") != code.redirect_uri:
            raise OAuthRefused("invalid_grant", "Malformed auth code.")
        digest = sha256(form.get("code_verifier", "").encode()).digest()
        if urlsafe_b64encode(digest).rstrip(b"=").decode() != code.challenge:
            raise OAuthRefused("invalid_grant", "Invalid code verifier.")
        self.redeemed += 1
        refresh_token = self.grant(*code.scopes)
        return {**self._issue(code.scopes, refresh_token), "refresh_token": refresh_token}

    def _refresh(self, form: Mapping[str, str]) -> dict[str, Any]:
        self._known_client(form)
        scopes = self._granted.get(form.get("refresh_token", ""))
        if scopes is None:
            raise OAuthRefused("invalid_grant", "Token has been expired or revoked.")
        self.refreshed += 1
        return self._issue(scopes, form["refresh_token"])

    def _known_client(self, form: Mapping[str, str]) -> None:
        given = f"{form.get('client_id')}:{form.get('client_secret')}"
        if not hmac.compare_digest(given, f"{self.client_id}:{self.client_secret}"):
            raise OAuthRefused("invalid_client", "The OAuth client was not found.")

    def _assert(self, assertion: str) -> dict[str, Any]:
        """Take a service account's signed word (RFC 7523), given for one of the domain's users."""
        claims = self._verified(assertion)
        now = self.clock()
        if (
            not now - _LONGEST_ASSERTION < claims["iat"] <= now + 1
            or claims["exp"] - claims["iat"] > _LONGEST_ASSERTION
        ):
            raise OAuthRefused("invalid_grant", "Invalid JWT: Token must be a short-lived token")
        scopes = frozenset(claims["scope"].split())
        if "sub" not in claims or not scopes <= self.delegated.get(claims["iss"], frozenset()):
            raise OAuthRefused(
                "unauthorized_client",
                "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any "
                "of the scopes requested.",
            )
        self.refreshed += 1
        self.users.append(claims["sub"])
        return self._issue(scopes, claims["iss"])

    def _verified(self, assertion: str) -> dict[str, Any]:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        signed, _, signature = assertion.rpartition(".")
        claims: dict[str, Any] = json.loads(_decoded(signed.partition(".")[2]))
        try:
            key = load_pem_public_key(self.public_keys[claims["iss"]])
            assert isinstance(key, RSAPublicKey)  # noqa: S101 - the sandbox registers no others
            key.verify(_decoded(signature), signed.encode(), PKCS1v15(), SHA256())
        except (KeyError, InvalidSignature) as exc:
            raise OAuthRefused("invalid_grant", "Invalid JWT Signature.") from exc
        return claims

    def _issue(self, scopes: frozenset[str], origin: str) -> dict[str, Any]:
        access_token = f"ya29.{secrets.token_urlsafe(24)}"
        self._access[access_token] = (self.clock() + TOKEN_SECONDS, scopes, origin)
        return {
            "access_token": access_token,
            "expires_in": TOKEN_SECONDS,
            "scope": " ".join(sorted(scopes)),
            "token_type": "Bearer",
        }


def _decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
