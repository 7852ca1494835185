"""Strikes secrets, signed links and addresses out of text that leaves a process."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from threading import Lock
from urllib.parse import quote

HIDDEN = "[hidden]"
ADDRESS = "[address]"
SHORTEST = 4
"""A shorter secret is no secret, and would strike out half of every line."""

_ATOM = r"\w.!#$%&'*+/=?^`{|}~-"
_PATTERNS = (
    # The user and the password of a URL; its query, which may hold a signature or a token.
    (re.compile(r"(?<=://)[^/\s@\"']+@"), f"{HIDDEN}@"),
    (re.compile(r"\?[\w.~%\[\]-]+=[^\s\"'<>]*"), f"?{HIDDEN}"),
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{12,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (
        re.compile(
            r"\b((?:X-Amz-)?(?:Signature|Credential|Security-Token)|AWSAccessKeyId|access_token|refresh_token|id_token"
            r"|client_secret|api_key|password|passwd|secret)(=|[\"']\s*[:=]\s*)[\"']?[^\s&\"',;}>]+",
            re.IGNORECASE,
        ),
        rf"\1\2{HIDDEN}",
    ),
    # A look-behind keeps the search linear: an address is tried from its first character alone.
    (re.compile(rf"(?<![{_ATOM}])[{_ATOM}]+(?:@|%40)[\w-]+(?:\.[\w-]+)+"), ADDRESS),
)


class Redactor:
    """Strikes known secret values, URL queries, credentials and e-mail addresses out of text."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._known: re.Pattern[str] | None = None
        self._guard = Lock()

    def hide(self, values: Iterable[str]) -> None:
        """Strike these values from now on, however they are spelt: as they are, in a URL, in JSON, in a repr."""
        spellings = {spelling for value in values for spelling in _spellings(value)}
        with self._guard:
            if not spellings <= self._values:
                self._values |= spellings
                longest_first = sorted(self._values, key=len, reverse=True)
                self._known = re.compile("|".join(re.escape(value) for value in longest_first))

    def __call__(self, text: str) -> str:
        """Return the text without them."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text


def _spellings(value: str) -> Iterable[str]:
    for line in value.splitlines():
        if len(line.strip()) >= SHORTEST:
            yield from {line, quote(line, safe=""), json.dumps(line)[1:-1], repr(line)[1:-1]}


_redactor = Redactor()
hide = _redactor.hide
"""Strike these values out of everything that this process logs from now on."""
redact = _redactor.__call__
"""Strike secrets, signed links and addresses out of a text."""
