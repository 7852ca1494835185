"""Notices to people: in a Slack channel, or to any address that takes signed webhooks."""

from __future__ import annotations

import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from http import HTTPStatus
from typing import Annotated, Any
from uuid import uuid4

import httpx
from pydantic import AfterValidator, BaseModel, Field, FilePath, SecretStr

from orchestrator.capabilities import Notice, Notifier, Receipt
from orchestrator.errors import AccessDenied, ConnectorError, RateLimited, Rejected, Unavailable
from orchestrator.plugins import Connector, DoubtClass, RegisterConnector, Settlement, hookimpl, within

_PREFIX = "whsec_"
_SHORTEST_KEY = 24
"""Bytes (standardwebhooks.com, spec 1.0, "Signature scheme")."""
_LONGEST_LINE = 2_900
"""Characters that fit into one block of Slack's (docs.slack.dev, "Section block": 3000)."""
_MOST_LINES = 40
_SYMBOLS = {"info": "\u2139\ufe0f", "warning": "\u26a0\ufe0f", "alarm": "\U0001f6a8"}
_BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_KEEP_OUT = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
"""The address is wrong, was withdrawn, or takes nothing from us: somebody must mend the settings."""
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


def _web_address(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    if not text.startswith(("https://", "http://")) or not httpx.URL(text).host:
        raise ValueError("write the whole address, beginning with https://")
    return url


def _signing_key(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    try:
        key = b64decode(text.removeprefix(_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not text.startswith(_PREFIX) or len(key) < _SHORTEST_KEY:
        raise ValueError(
            f"write {_PREFIX} and {_SHORTEST_KEY} random bytes or more in base64 (openssl rand -base64 32)"
        )
    return secret


Url = Annotated[SecretStr, AfterValidator(_web_address)]
"""An address that may hold a secret."""


class PostSettings(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """Where notices are posted to."""

    url: Url
    ca_file: FilePath | None = None
    """Certificates (PEM) to trust instead of the system's."""
    timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 10
    """Total time for one call."""


class WebhookSettings(PostSettings, frozen=True):
    """Where signed notices are posted to."""

    secret: Annotated[SecretStr, AfterValidator(_signing_key)]
    """What they are signed with, shared with the receiver."""
    remembers_hours: Annotated[float, Field(gt=0)] = 24
    """For so long the receiver knows a ``webhook-id`` again, and takes its notice once."""


class _Post:
    """Posts to one address, and says what came of it."""

    def __init__(self, settings: PostSettings, name: str) -> None:
        self._settings = settings
        self._place = f"{name} at {httpx.URL(settings.url.get_secret_value()).host}"

    @property
    def limit(self) -> timedelta:
        """Total time for one call."""
        return timedelta(seconds=self._settings.timeout_seconds)

    @property
    def place(self) -> str:
        """The address as messages name it: its path may be a secret."""
        return self._place

    def send(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Post once. What is posted may arrive after the time is over: its receiver must bear it twice."""
        headers = {"Content-Type": "application/json", **headers}
        try:
            answer = within(self.limit, lambda: self._client.post(self._url, content=body, headers=headers))
        except TimeoutError as exc:
            raise Unavailable(f"{self._place} gave no answer within {self._settings.timeout_seconds:g} s") from exc
        except httpx.HTTPError as exc:
            sent = not isinstance(exc, _NOT_SENT)
            raise Unavailable(f"{self._place} cannot be reached ({type(exc).__name__})", no_effect=not sent) from exc
        if not answer.is_success:
            raise self._refusal(answer)

    def reach(self) -> str:
        """See whether the address answers at all; posts nothing."""
        try:
            answer = within(self.limit, lambda: self._client.head(self._url))
        except (TimeoutError, httpx.HTTPError) as exc:
            raise Unavailable(f"{self._place} cannot be reached ({type(exc).__name__})", no_effect=True) from exc
        return f"{self._place} answers ({answer.status_code}); only a notice proves that it is taken"

    def _refusal(self, answer: httpx.Response) -> ConnectorError:
        refused = f"{self._place} refused a notice with {answer.status_code}"
        if answer.status_code in _BUSY:
            return RateLimited(refused, retry_after=_retry_after(answer))
        if answer.status_code in _KEEP_OUT:
            return AccessDenied(f"{refused}: correct url, or ask the receiver for a new one")
        if answer.is_server_error:
            return Unavailable(refused)
        return Rejected(refused)

    @property
    def _url(self) -> str:
        return self._settings.url.get_secret_value()

    @cached_property
    def _client(self) -> httpx.Client:
        verify: Any = True
        if self._settings.ca_file:
            import ssl

            verify = ssl.create_default_context(cafile=str(self._settings.ca_file))
        return httpx.Client(verify=verify, timeout=self._settings.timeout_seconds, follow_redirects=False)


class SlackNotifier:
    """One channel, through an incoming webhook (docs.slack.dev, "Sending messages using incoming webhooks")."""

    def __init__(self, settings: PostSettings) -> None:
        self._post = _Post(settings, "Slack")

    def notify(self, notice: Notice, *, effect_id: str | None = None) -> Receipt:
        """Post the notice; Slack gives no name for it."""
        self._post.send(json.dumps(_blocks(notice)).encode(), {})
        return Receipt(reference=effect_id or "")

    def settlement(self, operation: str) -> Settlement:
        """Declare that a notice is simply posted again: read twice it does no harm, never read it may."""
        return _settlement(operation, Settlement(doubt=DoubtClass.NATURAL, timeout=self._post.limit))

    def check(self) -> str:
        """See that the address answers, and post nothing."""
        return self._post.reach()


class WebhookNotifier:
    """Any receiver that speaks Standard Webhooks (standardwebhooks.com); the effect's id is the idempotency key."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._post = _Post(settings, "the receiver")
        self._key = b64decode(settings.secret.get_secret_value().removeprefix(_PREFIX))
        self._remembers = timedelta(hours=settings.remembers_hours)

    def notify(self, notice: Notice, *, effect_id: str | None = None) -> Receipt:
        """Post the notice, signed."""
        identifier = effect_id or uuid4().hex
        now = datetime.now(UTC)
        document = {"type": f"notice.{notice.severity}", "timestamp": now.isoformat(), "data": _plain(notice)}
        body = json.dumps(document, ensure_ascii=False).encode()
        self._post.send(body, self._signed(identifier, str(int(now.timestamp())), body))
        return Receipt(reference=identifier)

    def settlement(self, operation: str) -> Settlement:
        """Declare that the receiver knows a notice by its id."""
        known = Settlement(doubt=DoubtClass.NATIVE_KEY, timeout=self._post.limit, key_lifetime=self._remembers)
        return _settlement(operation, known)

    def check(self) -> str:
        """See that the address answers, and post nothing."""
        return self._post.reach()

    def _signed(self, identifier: str, timestamp: str, body: bytes) -> dict[str, str]:
        digest = hmac.digest(self._key, f"{identifier}.{timestamp}.".encode() + body, "sha256")
        return {
            "webhook-id": identifier,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{b64encode(digest).decode()}",
        }


@hookimpl
def register_connectors(register: RegisterConnector) -> None:
    """Offer the connectors."""
    register(Connector(name="slack", provides=(Notifier,), settings=PostSettings, build=SlackNotifier))
    register(Connector(name="webhook", provides=(Notifier,), settings=WebhookSettings, build=WebhookNotifier))


def _settlement(operation: str, settlement: Settlement) -> Settlement:
    if operation != "notify":
        raise LookupError(f"a notifier has no effect {operation!r}")
    return settlement


def _plain(notice: Notice) -> dict[str, Any]:
    return {"title": notice.title, "lines": list(notice.lines), "severity": notice.severity}


def _blocks(notice: Notice) -> dict[str, Any]:
    """Write a notice as Slack wants it; every word is plain text, so that none can link, mention or call."""
    title = f"{_SYMBOLS[notice.severity]} {notice.title}"
    texts = [title, *notice.lines[:_MOST_LINES]]
    blocks = [
        {"type": "section", "text": {"type": "plain_text", "text": text[:_LONGEST_LINE]}} for text in texts if text
    ]
    # The fallback of notifications is read as markup: there, these three must be escaped ("Formatting text").
    fallback = title.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"text": fallback, "blocks": blocks}


def _retry_after(answer: httpx.Response) -> timedelta | None:
    """Read ``Retry-After``: seconds, or a date (RFC 9110 10.2.3)."""
    written = answer.headers.get("retry-after", "")
    if written.isdecimal():
        return timedelta(seconds=int(written[:9]))
    try:
        return max(parsedate_to_datetime(written) - datetime.now(UTC), timedelta(0))
    except (ValueError, TypeError):
        return None
