"""Who is let into a Keap account, and how often: keys, OAuth with rotating refresh tokens, throttle and quota."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.sandbox.keap.crm import Refused

TOKEN_LIFE = timedelta(seconds=86400)


@dataclass
class Count:
    """So many calls in a period; periods begin at full multiples, as a gateway's windows do."""

    unit: str
    seconds: int
    limit: int
    used: int = 0
    period: int = 0

    def take(self, now: datetime) -> bool:
        """Count a call; tell whether it is let through."""
        if (period := int(now.timestamp()) // self.seconds) != self.period:
            self.period, self.used = period, 0
        self.used += 1
        return self.used <= self.limit

    def headers(self, name: str) -> dict[str, str]:
        """Say how much is left, as each answer does."""
        told = {
            "limit": self.limit,
            "time-unit": self.unit,
            "interval": 1,
            "available": max(self.limit - self.used, 0),
            "used": self.used,
            "expiry-time": (self.period + 1) * self.seconds * 1000,
        }
        return {f"x-keap-product-{name}-{key}": str(value) for key, value in told.items()}


@dataclass
class Gate:
    """The credentials of one account.

    Args:
        clock: Tells the time.
        throttle: Calls in a minute.
        quota: Calls in a day.
    """

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    api_key: str = "sandbox-keap-key"
    client_id: str = "sandbox-app"
    client_secret: str = "sandbox-app-secret"
    throttle: Count = field(default_factory=lambda: Count("minute", 60, 240))
    quota: Count = field(default_factory=lambda: Count("day", 86400, 30000))
    tells_retry_after: bool = False
    """Whether a 429 says how long to wait; the vendor's does not."""
    refreshes: int = 0
    refused_refreshes: int = 0
    _access: dict[str, datetime] = field(default_factory=dict)
    _refresh: set[str] = field(default_factory=set)
    _codes: dict[str, str] = field(default_factory=dict)

    def admit(self, headers: Mapping[str, str]) -> None:
        """Let a call in, or refuse it."""
        bearer = headers.get("Authorization", "").removeprefix("Bearer ")
        if headers.get("X-Keap-API-Key") != self.api_key and self._access.get(bearer, self.clock()) <= self.clock():
            raise Refused(401, "invalid access token")
        if not self.throttle.take(self.clock()) or not self.quota.take(self.clock()):
            raise Refused(429, "Quota Exceeded")

    def told(self, status: int) -> dict[str, str]:
        """Return the headers about what is left."""
        headers = self.throttle.headers("throttle") | self.quota.headers("quota")
        if status == 429 and self.tells_retry_after:  # noqa: PLR2004 - its HTTP status
            headers["Retry-After"] = "7"
        return headers

    def new_tokens(self) -> dict[str, Any]:
        """Give a new pair; earlier refresh tokens end."""
        access, refresh = secrets.token_hex(16), secrets.token_hex(16)
        self._access[access] = self.clock() + TOKEN_LIFE
        self._refresh = {refresh}
        return {
            "access_token": access,
            "refresh_token": refresh,
            "token_type": "bearer",
            "expires_in": int(TOKEN_LIFE.total_seconds()) - 1,
            "scope": "full|sandbox.infusionsoft.com",
        }

    def end_access_tokens(self) -> None:
        """Let every access token end now, before its time."""
        self._access.clear()

    def revoke(self) -> None:
        """Take every token away, as a user does who removes the app."""
        self._access.clear()
        self._refresh.clear()

    def grant(self, query: Mapping[str, str]) -> str:
        """``GET /app/oauth/authorize``: the user agrees at once; return the code."""
        if query.get("client_id") != self.client_id or query.get("response_type") != "code":
            raise Refused(400, "unknown app")
        code = secrets.token_hex(8)
        self._codes[code] = query.get("redirect_uri", "")
        return code

    def token(self, headers: Mapping[str, str], form: Mapping[str, str]) -> dict[str, Any]:
        """``POST /token``."""
        if form.get("grant_type") == "authorization_code":
            self._prove(form.get("client_id", ""), form.get("client_secret", ""))
            if self._codes.pop(form.get("code", ""), None) != form.get("redirect_uri", ""):
                raise Refused(400, "invalid_grant")
            return self.new_tokens()
        basic = headers.get("Authorization", "").removeprefix("Basic ")
        name, _, secret = base64.b64decode(basic).decode().partition(":")
        self._prove(name, secret)
        if form.get("grant_type") != "refresh_token" or form.get("refresh_token") not in self._refresh:
            self.refused_refreshes += 1
            raise Refused(400, "invalid_grant")
        self.refreshes += 1
        return self.new_tokens()

    def _prove(self, client_id: str, secret: str) -> None:
        if (client_id, secret) != (self.client_id, self.client_secret):
            raise Refused(401, "invalid_client")
