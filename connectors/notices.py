"""Notices to people: in a Slack channel, or to any address that takes signed webhooks."""

from __future__ import annotations

import hmac
import json
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import uuid4

from pydantic import AfterValidator, Field, SecretStr, TypeAdapter, ValidationError

from orchestrator.capabilities import Notice, Notifier, Receipt
from orchestrator.errors import ConnectorError, Unavailable
from orchestrator.plugins import Connector, DoubtClass, RegisterConnector, Settlement, hookimpl
from orchestrator.toolkit.http import HttpSettings, HttpSystem
from orchestrator.toolkit.settings import BaseUrl, NetworkSettings
from orchestrator.toolkit.standard_webhooks import signing_key

_SHORTEST_KEY = 24
"""Bytes (standardwebhooks.com, spec 1.0, "Signature scheme")."""
_LONGEST_LINE = 2_900
"""Characters that fit into one block of Slack's (docs.slack.dev, "Section block": 3000)."""
_MOST_LINES = 40
_TAKEN = b"ok"
"""What Slack answers to a notice that it has taken (docs.slack.dev, "Sending messages using incoming webhooks")."""
_SYMBOLS = {"info": "\u2139\ufe0f", "warning": "\u26a0\ufe0f", "alarm": "\U0001f6a8"}


def _web_address(url: SecretStr) -> SecretStr:
    try:
        TypeAdapter(BaseUrl).validate_python(url.get_secret_value())
    except ValidationError:
        raise ValueError("write the whole address, beginning with https://") from None
    return url


def _long_enough(secret: SecretStr) -> SecretStr:
    try:
        key = signing_key(secret.get_secret_value())
    except ValueError:
        key = b""
    if len(key) < _SHORTEST_KEY:
        raise ValueError(f"write {_SHORTEST_KEY} random bytes or more in base64 (openssl rand -base64 32)")
    return secret


Url = Annotated[SecretStr, AfterValidator(_web_address)]
"""An address that may hold a secret."""


class PostSettings(NetworkSettings, frozen=True):
    """Where notices are posted to."""

    url: Url


class WebhookSettings(PostSettings, frozen=True):
    """Where signed notices are posted to."""

    secret: Annotated[SecretStr, AfterValidator(_long_enough)]
    """What they are signed with, shared with the receiver."""
    remembers_hours: Annotated[float, Field(gt=0)] = 24
    """For so long the receiver knows a ``webhook-id`` again, and takes its notice once."""


class _Post:
    """Posts to one address. What is posted twice does no harm, so what may still be under way is no danger."""

    def __init__(self, settings: PostSettings, name: str) -> None:
        reached = HttpSettings(
            base_url=settings.url.get_secret_value(),
            ca_file=settings.ca_file,
            timeout_seconds=settings.timeout_seconds,
        )
        self._system = HttpSystem(name, reached, setting="url")

    @property
    def limit(self) -> timedelta:
        """Total time for one call."""
        return self._system.limit

    def send(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Post once, and return what was answered."""
        given = {"Content-Type": "application/json", **headers}
        return self._system.send("POST", "", body=body, headers=given, writes=True).content

    def reach(self) -> str:
        """See whether the address answers at all; posts nothing."""
        seen = f"{self._system.place} answers; only a notice proves that it is taken"
        try:
            self._system.send("HEAD", "", writes=False)
        except Unavailable:
            raise
        except ConnectorError:
            return seen  # these addresses need not know HEAD
        return seen


class SlackNotifier:
    """One channel, through an incoming webhook (docs.slack.dev, "Sending messages using incoming webhooks")."""

    def __init__(self, settings: PostSettings) -> None:
        self._post = _Post(settings, "Slack")
        # Read twice a notice does no harm, never read it may.
        self.settlements = {"notify": Settlement(doubt=DoubtClass.NATURAL, timeout=self._post.limit)}

    def notify(self, notice: Notice, *, effect_id: str | None = None) -> Receipt:
        """Post the notice; Slack gives no name for it."""
        if self._post.send(json.dumps(_blocks(notice)).encode(), {}).strip() != _TAKEN:
            raise Unavailable("what answered is not Slack: check url", no_effect=False)
        return Receipt(reference=effect_id or "")

    def check(self) -> str:
        """See that the address answers, and post nothing."""
        return self._post.reach()


class WebhookNotifier:
    """Any receiver that speaks Standard Webhooks (standardwebhooks.com); the effect's id is the idempotency key."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._post = _Post(settings, "the receiver")
        self._key = signing_key(settings.secret.get_secret_value())
        remembers = timedelta(hours=settings.remembers_hours)
        by_id = Settlement(doubt=DoubtClass.NATIVE_KEY, timeout=self._post.limit, key_lifetime=remembers)
        self.settlements = {"notify": by_id}

    def notify(self, notice: Notice, *, effect_id: str | None = None) -> Receipt:
        """Post the notice, signed."""
        identifier = effect_id or uuid4().hex
        now = datetime.now(UTC)
        document = {"type": f"notice.{notice.severity}", "timestamp": now.isoformat(), "data": _plain(notice)}
        body = json.dumps(document, ensure_ascii=False).encode()
        self._post.send(body, self._signed(identifier, str(int(now.timestamp())), body))
        return Receipt(reference=identifier)

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
