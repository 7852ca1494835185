"""Whether a webhook call comes from who it says: pure functions over bytes that never raise.

Every secret is tried on every call, whatever the call looks like, and signatures are compared in
constant time. What each scheme signs:

- Standard Webhooks (standardwebhooks.com, spec 1.0), also with Svix's names of the headers (docs.svix.com, "Verifying
  webhooks manually"): ``id.timestamp.body``, base64;
- Stripe (docs.stripe.com/webhooks/signature): ``t.body``, hex;
- GitHub (docs.github.com, "Validating webhook deliveries"): the body alone, hex; no time;
- Slack (docs.slack.dev, "Verifying requests from Slack"): ``v0:timestamp:body``, hex;
- HubSpot v3 (developers.hubspot.com, "Validating requests"): method, address, body and time in milliseconds, base64;
- plain HMAC: the body alone.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.settings.webhooks import HmacSettings, Scheme

_OTHER_NAMES: Mapping[bytes, bytes] = {
    b"webhook-id": b"svix-id",
    b"webhook-timestamp": b"svix-timestamp",
    b"webhook-signature": b"svix-signature",
}
_SECONDS = re.compile(rb"[0-9]{1,16}")
_MILLISECONDS = 1000


class Verdict(StrEnum):
    """What was found; the value is the reason for which a call is refused."""

    GENUINE = "genuine"
    FORGED = "signature"
    STALE = "time"


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call as it came in.

    Args:
        method: The HTTP method.
        url: The whole address as the sender knows it.
        headers: By name in lower case.
        body: Byte for byte.
    """

    method: bytes = b"POST"
    url: bytes = b""
    headers: Mapping[bytes, bytes]
    body: bytes

    def header(self, name: bytes) -> bytes:
        """Return a header, under either of its names; empty if it is not there, or if the two say different things."""
        names = (name, _OTHER_NAMES.get(name, name))
        values = {self.headers[each] for each in names if each in self.headers}
        return values.pop() if len(values) == 1 else b""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What proves a webhook's calls.

    Args:
        scheme: How they are signed.
        keys: What they are signed with; any of them counts.
        tolerance: A signed time may be so far from now, in seconds.
        header: Where plain HMAC puts its signature.
    """

    scheme: Scheme
    keys: tuple[bytes, ...] = field(default=(), repr=False)
    tolerance: float = 300
    header: HmacSettings | None = None


@dataclass(frozen=True, kw_only=True)
class _Claim:
    """What a call says of itself."""

    signed: tuple[bytes, ...]
    signatures: list[bytes]
    written: Callable[[bytes], bytes]
    """How the scheme writes a digest."""
    timestamp: bytes | None = None
    per_second: int = 1


def verify(proof: Proof, call: Call, now: float) -> Verdict:
    """Tell whether a call is genuine.

    Args:
        proof: What proves it.
        call: The call.
        now: The present, in seconds since 1970 (UTC).
    """
    if proof.scheme == "none":
        return Verdict.GENUINE
    claim = _CLAIMS[proof.scheme](call, proof)
    if not any([_is_signed(claim, key) for key in proof.keys]):  # noqa: C419 - each key is tried, for equal work
        return Verdict.FORGED
    return Verdict.GENUINE if _is_fresh(claim, proof.tolerance, now) else Verdict.STALE


def _is_signed(claim: _Claim, key: bytes) -> bool:
    digest = hmac.new(key, digestmod="sha256")
    for part in claim.signed:
        digest.update(part)
    expected = claim.written(digest.digest())
    return any([hmac.compare_digest(expected, signature) for signature in claim.signatures])  # noqa: C419


def _is_fresh(claim: _Claim, tolerance: float, now: float) -> bool:
    if claim.timestamp is None:
        return True
    if not _SECONDS.fullmatch(claim.timestamp):
        return False
    return abs(now - int(claim.timestamp) / claim.per_second) <= tolerance


def _hex(digest: bytes) -> bytes:
    return digest.hex().encode()


def _standard_webhooks(call: Call, _proof: Proof) -> _Claim:
    id_, timestamp = call.header(b"webhook-id"), call.header(b"webhook-timestamp")
    versions = [part.partition(b",") for part in call.header(b"webhook-signature").split(b" ")]
    return _Claim(
        signed=(id_, b".", timestamp, b".", call.body),
        signatures=[signature for version, _, signature in versions if version == b"v1" and id_],
        written=b64encode,
        timestamp=timestamp,
    )


def _stripe(call: Call, _proof: Proof) -> _Claim:
    parts = [part.strip().partition(b"=") for part in call.header(b"stripe-signature").split(b",")]
    timestamp = next((value for name, _, value in parts if name == b"t"), b"")
    return _Claim(
        signed=(timestamp, b".", call.body),
        signatures=[value for name, _, value in parts if name == b"v1"],
        written=_hex,
        timestamp=timestamp,
    )


def _github(call: Call, _proof: Proof) -> _Claim:
    return _Claim(
        signed=(call.body,),
        signatures=[call.header(b"x-hub-signature-256")],
        written=lambda digest: b"sha256=" + _hex(digest),
    )


def _slack(call: Call, _proof: Proof) -> _Claim:
    timestamp = call.header(b"x-slack-request-timestamp")
    return _Claim(
        signed=(b"v0:", timestamp, b":", call.body),
        signatures=[call.header(b"x-slack-signature")],
        written=lambda digest: b"v0=" + _hex(digest),
        timestamp=timestamp,
    )


def _hubspot_v3(call: Call, _proof: Proof) -> _Claim:
    timestamp = call.header(b"x-hubspot-request-timestamp")
    return _Claim(
        signed=(call.method, call.url, call.body, timestamp),
        signatures=[call.header(b"x-hubspot-signature-v3")],
        written=b64encode,
        timestamp=timestamp,
        per_second=_MILLISECONDS,
    )


def _plain_hmac(call: Call, proof: Proof) -> _Claim:
    place = proof.header or HmacSettings(header="X-Signature")
    signature, prefix = call.header(place.header.lower().encode()), place.prefix.encode()
    if place.encoding == "base64":
        return _Claim(signed=(call.body,), signatures=[signature], written=lambda digest: prefix + b64encode(digest))
    # Hexadecimal digits mean the same in capitals, which some senders write.
    digits = signature.removeprefix(prefix).lower() if signature.startswith(prefix) else b""
    return _Claim(signed=(call.body,), signatures=[digits], written=_hex)


_CLAIMS: Mapping[Scheme, Callable[[Call, Proof], _Claim]] = {
    "standard-webhooks": _standard_webhooks,
    "stripe": _stripe,
    "github": _github,
    "slack": _slack,
    "hubspot-v3": _hubspot_v3,
    "hmac": _plain_hmac,
}
