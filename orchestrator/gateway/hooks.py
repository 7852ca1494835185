"""The webhooks as they are configured, found by their address."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from orchestrator.gateway.mapping import MISSING, find
from orchestrator.gateway.verification import Call, Proof
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.record.vault import Vault
from orchestrator.settings import WEBHOOK, Constant, WebhookSettings
from orchestrator.toolkit.standard_webhooks import signing_key

UNKNOWN = "(unknown)"
"""Stands for every address that leads nowhere. No webhook can have this name."""
LONGEST_KEY = 200
_IDS: Mapping[str, str] = MappingProxyType(
    {"standard-webhooks": "webhook-id", "stripe": "/id", "github": "X-GitHub-Delivery", "slack": "/event_id"}
)
"""Where each scheme puts the id of a delivery."""


@dataclass(frozen=True, kw_only=True)
class Hook:
    """One webhook.

    Args:
        name: Its name in the configuration.
        process: What each delivery starts.
        proof: What proves its calls.
        path_secret: The last part of its address, if it has one.
        url: Its whole address as the sender knows it, if that is signed.
        max_bytes: The largest body.
        delivery_id: Where the sender's id of a delivery stands: a header, a JSON Pointer, or nowhere.
        sources: The process's input, field by field.
    """

    name: str
    process: ProcessDefinition
    proof: Proof
    path_secret: bytes = field(default=b"", repr=False)
    url: bytes = b""
    max_bytes: int
    delivery_id: str = ""
    sources: Mapping[str, str | Constant]

    @property
    def source(self) -> str:
        """Its name in the inbox."""
        return WEBHOOK + self.name

    @property
    def proven(self) -> str:
        """How its calls are proven, as the record says it."""
        return "unsigned (secret address)" if self.proof.scheme == "none" else f"signature ({self.proof.scheme})"


def hook_of(name: str, settings: WebhookSettings, process: ProcessDefinition) -> Hook:
    """Make a webhook of its section of the configuration, which fits (see ``orchestrator check``)."""
    return Hook(
        name=name,
        process=process,
        proof=Proof(
            scheme=settings.verify,
            keys=tuple(_key(settings, secret.get_secret_value()) for secret in settings.secrets),
            tolerance=settings.tolerance_seconds,
            header=settings.hmac,
        ),
        path_secret=settings.path_secret.get_secret_value().encode() if settings.path_secret else b"",
        url=(settings.external_url or "").encode(),
        max_bytes=settings.max_bytes,
        delivery_id=settings.delivery_id or _IDS.get(settings.verify, ""),
        sources=settings.input,
    )


def _key(settings: WebhookSettings, secret: str) -> bytes:
    if settings.verify == "standard-webhooks":
        return signing_key(secret)
    return secret.encode()


class Hooks:
    """Finds webhooks by the part of the address behind ``/hooks/``.

    Args:
        hooks: All of them.
    """

    def __init__(self, hooks: Iterable[Hook]) -> None:
        self._hooks = {hook.name: hook for hook in hooks}
        # An address that leads nowhere costs the same work, and gets the same answer, as a forged signature.
        self.decoy = Proof(scheme="github", keys=(secrets.token_bytes(),))

    def find(self, path: str) -> Hook | None:
        """Return the webhook with this address."""
        name, _, secret = path.partition("/")
        hook = self._hooks.get(name)
        expected = hook.path_secret if hook is not None else b""
        is_right = hmac.compare_digest(expected, secret.encode("utf-8", "surrogatepass"))
        return hook if is_right else None


def key_of(hook: Hook, call: Call, payload: object, received_at: datetime, vault: Vault) -> str:
    """Return what a delivery is known by: the sender's id, else a keyed hash of the body and the minute.

    An id that is long or not plain text is hashed as well, so that it always fits into the record.
    """
    if hook.delivery_id.startswith("/"):
        found = find(payload, hook.delivery_id)
    else:
        found = call.header(hook.delivery_id.lower().encode()).decode("latin-1")
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found) if abs(found) < 2**63 else MISSING
    if not isinstance(found, str) or not found:
        return f"body-{vault.fingerprint(call.body, f'{received_at:%Y-%m-%dT%H:%M}'.encode())}"
    if len(found) > LONGEST_KEY or not (found.isascii() and found.isprintable()):
        return f"long-{vault.fingerprint(found.encode('utf-8', 'surrogatepass'))}"
    return found
