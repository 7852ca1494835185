"""What becomes of a call: an answer, or one of the ways to get none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}


@dataclass(frozen=True)
class Answer:
    """What goes back over the wire."""

    status: int
    body: bytes = b"{}"
    headers: Mapping[str, str] | None = None


class Break(StrEnum):
    """How a call ends without an answer."""

    RESET = "reset"
    CLOSE = "close"
    """The connection is closed in order."""
    CUT = "cut"
    """The connection is closed in the middle of an answer."""
    SILENCE = "silence"
    """Nothing comes, and the connection stays."""
    DRIP = "drip"
    """An answer that never ends, a byte now and then."""
    NONSENSE = "nonsense"
    """Something that is no HTTP."""


@dataclass(frozen=True)
class Fault:
    """What becomes of one call instead of an answer.

    Args:
        acts: Whether the call is carried out first.
        answer: What is answered.
        breaks: Without an answer, how the call ends.
    """

    acts: bool = False
    answer: Answer | None = None
    breaks: Break = Break.RESET


def refusal(status: int, reason: str = "", message: str = "", **headers: str) -> Answer:
    """Write a refusal in Google's error format."""
    error = {"code": status, "message": message, "errors": [{"message": message, "domain": "global", "reason": reason}]}
    body = json.dumps({"error": {**error, "status": _STATUS.get(status, "UNAVAILABLE")}}).encode()
    return Answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})
