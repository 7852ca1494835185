"""REST hooks, version 1: subscriptions, their verification, and four attempts to deliver.

Source: developer.keap.com/rest-hook-documentation. The pauses between attempts (30 s, 5 and 30 minutes) are left
out: each event is delivered, or given up, when it is told to be.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from orchestrator.sandbox.keap.crm import Refused

ATTEMPTS = 4
MOST_OBJECTS = 1000
HOOK_SECRET = "X-Hook-Secret"
EVENTS = ("contact.add", "contact.edit", "contactGroup.applied", "note.add", "order.add", "order.edit")
_GONE = 410
_SECONDS = 30.0


@dataclass
class HookService:
    """The hooks of one account.

    Args:
        clock: Tells the time.
    """

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    hooks: dict[str, dict[str, str]] = field(default_factory=dict)
    waiting: list[tuple[str, str]] = field(default_factory=list)
    """Events that have not been delivered yet, with the id of what changed."""
    _last: int = 0

    def happened(self, event: str, object_id: str) -> None:
        """Note an event, to be delivered later."""
        self.waiting.append((event, object_id))

    def listed(self) -> list[dict[str, str]]:
        """``GET /rest/v1/hooks``."""
        return list(self.hooks.values())

    def one(self, key: str) -> dict[str, str]:
        """``GET /rest/v1/hooks/{key}``."""
        if key not in self.hooks:
            raise Refused(404, "there is no such hook")
        return self.hooks[key]

    def create(self, body: dict[str, Any]) -> dict[str, str]:
        """``POST /rest/v1/hooks``: subscribe, and try to verify at once."""
        event, url = str(body.get("eventKey")), str(body.get("hookUrl"))
        if event not in EVENTS or not url.startswith(("http://", "https://")):
            raise Refused(400, "eventKey and hookUrl are required")
        self._last += 1
        hook = {"key": str(self._last), "eventKey": event, "hookUrl": url, "status": "Unverified"}
        self.hooks[hook["key"]] = hook
        return self.verify(hook["key"])

    def verify(self, key: str) -> dict[str, str]:
        """``POST /rest/v1/hooks/{key}/verify``: the address must send the secret back."""
        hook, secret = self.one(key), secrets.token_hex(16)
        try:
            answer = httpx.post(hook["hookUrl"], content=b"", headers={HOOK_SECRET: secret}, timeout=_SECONDS)
        except httpx.HTTPError:
            return hook
        if answer.status_code == httpx.codes.OK and answer.headers.get(HOOK_SECRET) == secret:
            hook["status"] = "Verified"
        return hook

    def deliver(self) -> list[int]:
        """Deliver what waits to every verified hook.

        Returns:
            The status of each attempt; 0 if nobody answered.
        """
        waiting, self.waiting = self.waiting, []
        events: dict[str, list[str]] = {}
        for event, object_id in waiting:
            events.setdefault(event, []).append(object_id)
        return [
            status
            for event, ids in events.items()
            for hook in self.listed()
            if (hook["eventKey"], hook["status"]) == (event, "Verified")
            for status in self._attempts(hook, self._payload(event, ids[:MOST_OBJECTS]))
        ]

    def _attempts(self, hook: dict[str, str], payload: bytes) -> list[int]:
        statuses: list[int] = []
        while len(statuses) < ATTEMPTS:
            statuses.append(_post(hook["hookUrl"], payload))
            if 200 <= statuses[-1] < 400:  # noqa: PLR2004 - as the vendor counts
                return statuses
            if statuses[-1] == _GONE:
                break
        hook["status"] = "Inactive"
        return statuses

    def _payload(self, event: str, ids: list[str]) -> bytes:
        noun, now = event.partition(".")[0], self.clock().strftime("%Y-%m-%dT%H:%M:%SZ")
        keys = [{"id": int(each), "apiUrl": "", "timestamp": now} for each in ids]
        return json.dumps({"event_key": event, "object_type": noun, "object_keys": keys}).encode()


def _post(url: str, payload: bytes) -> int:
    try:
        answer = httpx.post(url, content=payload, headers={"Content-Type": "application/json"}, timeout=_SECONDS)
    except httpx.HTTPError:
        return 0
    return answer.status_code
