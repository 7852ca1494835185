"""Webhooks that tests configure, and calls that their senders would make."""

from __future__ import annotations

import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.bootstrap import Application
from orchestrator.capabilities import Private, Value
from orchestrator.gateway.accepting import Arrival
from orchestrator.gateway.hooks import Hook
from orchestrator.gateway.mapping import Unfit, read_payload, request_from
from orchestrator.gateway.verification import Proof
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.plugins.host import PluginHost
from orchestrator.record.clock import Clock, utc_now
from orchestrator.settings import Constant
from orchestrator.settings.webhooks import HmacSettings, Scheme
from tests.support.configurations import load
from tests.support.plugins import with_processes

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_plJ3nmyCDGBKInavdOK15jsl"
URL = "https://hooks.shop.example/hooks/crm"
KEYS: Mapping[Scheme, bytes] = {"standard-webhooks": b64decode(SECRET[6:])}
PLAIN = HmacSettings(header="X-Signature", encoding="hex", prefix="sha256=")
SIGNED: tuple[Scheme, ...] = ("standard-webhooks", "stripe", "github", "slack", "hubspot-v3", "hmac")


class Order(Value):
    """The input of the sample process."""

    email: Private[str]
    product: Private[str] = ""
    by_mail: bool = False


def serve(request: Order) -> str:
    """Serve an order."""
    return "served"


def failing(request: Order) -> str:
    """Fail."""
    raise RuntimeError("no")


SERVE = ProcessDefinition("serve", serve, case_key=lambda order: order.email)
FAILING = ProcessDefinition("failing", failing)


@dataclass
class Process:
    """A process as a plug-in offers it."""

    definition: ProcessDefinition = field(default_factory=lambda: SERVE)


def proof(scheme: Scheme, *keys: bytes) -> Proof:
    return Proof(scheme=scheme, keys=keys or (key(scheme),), header=PLAIN if scheme == "hmac" else None)


def key(scheme: Scheme) -> bytes:
    return KEYS.get(scheme, SECRET.encode())


def signed(scheme: Scheme, body: bytes, at: float, *, secret: bytes | None = None, id_: str = "m-1") -> dict[str, str]:
    """Return the headers that a genuine sender puts on a call: computed here, apart from the code under test."""
    secret = secret or key(scheme)
    seconds = str(int(at))
    match scheme:
        case "standard-webhooks":
            digest = _sha256(secret, f"{id_}.{seconds}.".encode() + body)
            signature = f"v1,{b64encode(digest).decode()}"
            return {"webhook-id": id_, "webhook-timestamp": seconds, "webhook-signature": signature}
        case "stripe":
            digest = _sha256(secret, f"{seconds}.".encode() + body)
            return {"Stripe-Signature": f"t={seconds},v1={digest.hex()},v0=older"}
        case "github":
            return {"X-Hub-Signature-256": f"sha256={_sha256(secret, body).hex()}", "X-GitHub-Delivery": id_}
        case "slack":
            digest = _sha256(secret, f"v0:{seconds}:".encode() + body)
            return {"X-Slack-Request-Timestamp": seconds, "X-Slack-Signature": f"v0={digest.hex()}"}
        case "hubspot-v3":
            milliseconds = str(int(at * 1000))
            digest = _sha256(secret, b"POST" + URL.encode() + body + milliseconds.encode())
            signature = b64encode(digest).decode()
            return {"X-HubSpot-Request-Timestamp": milliseconds, "X-HubSpot-Signature-v3": signature}
        case _:
            return {"X-Signature": f"sha256={_sha256(secret, body).hex()}"}


def _sha256(secret: bytes, message: bytes) -> bytes:
    return hmac.digest(secret, message, "sha256")


def order(number: int = 1, **more: Any) -> bytes:
    """Return what a shop sends."""
    return json.dumps({"id": f"evt_{number}", "customer": {"email": f"ann{number}@example.com"}, **more}).encode()


NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
SOURCES: dict[str, str | Constant] = {
    "email": "/customer/email",
    "product": "/items/0/name",
    "by_mail": Constant(const=True),
}


def hook(process: ProcessDefinition = SERVE, **changed: Any) -> Hook:
    plain: dict[str, Any] = {"max_bytes": 1000, "sources": SOURCES, "proof": proof("stripe"), "delivery_id": "/id"}
    return Hook(**{"name": "shop", "process": process, **plain, **changed})


SHOP = hook()


def arrival(body: bytes, key: str = "evt_1", hook: Hook = SHOP) -> Arrival:
    common: dict[str, Any] = {"hook": hook, "key": key, "body": body, "received_at": NOON}
    try:
        return Arrival(**common, request=request_from(read_payload(body), hook.sources, hook.process.request))
    except Unfit as exc:
        return Arrival(**common, problem=str(exc))


HOOKS = """
[webhooks.shop]
process = "serve"
verify = "standard-webhooks"
secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
[webhooks.shop.input]
email = "/customer/email"
product = "/items/0/name"
by_mail = {const = true}

[webhooks.keap]
process = "failing"
verify = "none"
path_secret = "ssssssssssssssssssssssssssssssss"
max_bytes = 2_000
delivery_id = "/id"
input.email = "/customer/email"

[webhooks.slack]
process = "serve"
verify = "slack"
secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
input.email = "/event/email"
"""


def plugins() -> PluginHost:
    """Return plug-ins that offer the sample processes, and nothing else."""
    return PluginHost(extra={"acme": with_processes(Process(SERVE), Process(FAILING))})


def configured(folder: Path, url: str = "", text: str = HOOKS, *, clock: Clock = utc_now) -> Application:
    """Return an application whose record lies in the folder, or at the URL."""
    where = url or f"sqlite:///{folder}/record.db"
    store = f'store = {{url = "{where}", key_file = "{folder}/keys/key"}}\n'
    return Application(load(folder, store + text), plugins=plugins(), clock=clock)
