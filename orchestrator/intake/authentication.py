"""How our own mail server proved who wrote a mail: ``Authentication-Results`` (RFC 8601)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from authres import AuthenticationResult, FeatureContext, dmarc

from orchestrator.intake.addresses import sender_in
from orchestrator.intake.fields import HEADER_LIMIT, Fields, header_end

METHODS = ("dmarc", "dkim", "spf")
"""What is kept as evidence."""
_VALUE_LIMIT = 8000
"""Characters of the header that are read."""
_KNOWN = FeatureContext(dmarc)
_COMMENT = re.compile(r"\([^()]*\)")


@dataclass(frozen=True, kw_only=True)
class Authentication:
    """What our own mail server says of a mail's sender."""

    results: Mapping[str, str] = field(default_factory=dict)
    """Method to result, as ``{"dmarc": "pass"}``; without addresses and domains."""
    proof: str = ""
    """What proves that the address of the From field wrote it, as ``dmarc=pass``; empty if nothing does."""


def authentication_of(raw: bytes, authserv_id: str | None) -> Authentication:
    """Read what our own mail server says of a mail's sender.

    Only the topmost header with our server's name counts: the sender may have written others below it, and whatever
    other servers say is hearsay (RFC 8601 1.6, 5).

    Args:
        raw: The mail.
        authserv_id: The name that our mail server writes first in the header; None if nobody knows it.
    """
    if authserv_id is None:
        return Authentication()
    try:
        head, _ = header_end(raw, 0, min(len(raw), HEADER_LIMIT))
        fields = Fields(raw[:head])
        topmost = _topmost(fields.all("authentication-results"), authserv_id)
        return _judged(topmost, sender_in(fields).rpartition("@")[2]) if topmost else Authentication()
    except Exception:  # noqa: BLE001 - a header that cannot be read proves nothing, and stops nobody
        return Authentication()


def _topmost(values: Iterable[str], authserv_id: str) -> str:
    return next((value for value in values if _names(value[:_VALUE_LIMIT], authserv_id)), "")[:_VALUE_LIMIT]


def _names(value: str, authserv_id: str) -> bool:
    """Tell whether a header carries this name, readable or not: one that is not must hide none above others."""
    words = _COMMENT.sub(" ", value).partition(";")[0].split()
    return bool(words) and words[0].strip('"').lower() == authserv_id.lower()


def _judged(header: str, domain: str) -> Authentication:
    found = _KNOWN.parse(f"Authentication-Results: {header}").results
    by_method = {method: [each for each in found if each.method.lower() == method] for method in METHODS}
    results = {method: _best(each.result.lower() for each in of) for method, of in by_method.items() if of}
    return Authentication(results=results, proof=_proof(results, by_method, domain))


def _best(results: Iterable[str]) -> str:
    return min(results, key=lambda result: result != "pass")


def _proof(results: Mapping[str, str], by_method: Mapping[str, list[AuthenticationResult]], domain: str) -> str:
    """Take DMARC's word; where the domain has no policy, a signature by exactly that domain (RFC 7489 3.1.1)."""
    if not domain:
        return ""
    if results.get("dmarc", "none") not in ("none", "bestguesspass"):
        passed = results["dmarc"] == "pass" and all(_speaks_of(each, domain, "from") for each in by_method["dmarc"])
        return "dmarc=pass" if passed else ""
    signed = [each for each in by_method["dkim"] if each.result.lower() == "pass"]
    return "dkim=pass" if any(_speaks_of(each, domain, "d", "i") for each in signed) else ""


def _speaks_of(result: AuthenticationResult, domain: str, *names: str) -> bool:
    """Tell whether a result names this domain in one of these properties of the header."""
    named = [each.value for each in result.properties if each.type == "header" and each.name in names]
    return any(value.rpartition("@")[2].lower() == domain for value in named)
