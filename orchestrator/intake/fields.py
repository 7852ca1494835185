"""The header of a mail or of one of its parts (RFC 5322 2.2, RFC 2047)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from orchestrator.intake.characters import DAMAGED_TEXT, clean_line, decode_base64, decode_quoted, decode_text

HEADER_LIMIT = 256 * 1024
"""How many bytes of headers are read of one mail, those of its parts included."""

_LINE_LIMIT = 8000
"""How many characters of an unstructured field are read."""
_FIELD = re.compile(rb"([!-9;-~]++)[ \t]*+:(.*)", re.DOTALL)
_ENCODED_WORD = re.compile(r"=\?([^?\s]{1,60})\?([bBqQ])\?([^?]*)\?=")


class Fields:
    """The fields of one header, by name.

    Args:
        header: The header's bytes, without the blank line. A line that is no field is passed over.
    """

    def __init__(self, header: bytes) -> None:
        self._values: dict[str, list[str]] = {}
        for line in _unfolded(header):
            if matched := _FIELD.fullmatch(line):
                name, value = (part.decode("ascii", "surrogateescape") for part in matched.groups())
                self._values.setdefault(name.lower(), []).append(value.strip())

    def __bool__(self) -> bool:
        return bool(self._values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def all(self, name: str) -> list[str]:
        """Return every value of a field, as it stands there; bytes above 127 are surrogates."""
        return self._values.get(name, [])

    def first(self, name: str) -> str:
        """Return the first value of a field; empty if there is none."""
        return next(iter(self.all(name)), "")


def header_end(raw: bytes, start: int, end: int) -> tuple[int, int]:
    """Find where the header that begins at ``start`` ends, and where its body begins."""
    if raw.startswith((b"\n", b"\r\n"), start, end):
        return start, raw.index(b"\n", start) + 1
    found = (end, end)
    for blank in (b"\n\n", b"\n\r\n", b"\r\r"):
        # Only what lies before the best match so far is searched, so that each byte is read three times at most.
        at = raw.find(blank, start, min(found[0] + len(blank), end))
        if 0 <= at < found[0]:
            found = (at, at + len(blank))
    return found


def decode_words(value: str) -> tuple[str, str]:
    """Decode an unstructured field with its encoded words (RFC 2047).

    Returns:
        One clean line, and what went wrong; empty if nothing was lost.
    """
    texts = []
    problems = []
    for charset, pieces in groupby(_pieces(value[:_LINE_LIMIT]), key=lambda piece: piece.charset):
        together = list(pieces)
        # A character may be split between two words of one charset: join before decoding.
        text, problem = decode_text(b"".join(piece.raw for piece in together), charset)
        texts.append(text)
        problems += [problem, *(DAMAGED_TEXT for piece in together if piece.broken)]
    return clean_line("".join(texts)), next(filter(None, problems), "")


class _Piece(NamedTuple):
    charset: str
    raw: bytes
    broken: bool = False


def _pieces(value: str) -> Iterator[_Piece]:
    position = 0
    for word in _ENCODED_WORD.finditer(value):
        between = value[position : word.start()]
        # White space between two words belongs to neither (RFC 2047 6.2).
        if between and not (position and between.isspace()):
            yield _Piece("", _bytes_of(between))
        # A language may follow the charset (RFC 2231 5).
        charset = word[1].partition("*")[0].lower()
        if word[2] in "qQ":
            yield _Piece(charset, decode_quoted(_bytes_of(word[3]), header=True))
        else:
            yield _Piece(charset, *decode_base64(_bytes_of(word[3])))
        position = word.end()
    if position < len(value):
        yield _Piece("", _bytes_of(value[position:]))


def _bytes_of(text: str) -> bytes:
    return text.encode("ascii", "surrogateescape")


def _unfolded(header: bytes) -> Iterator[bytes]:
    lines: list[bytes] = []
    for line in header.splitlines():
        if line.startswith((b" ", b"\t")):
            lines.append(line)
            continue
        yield b"".join(lines)
        lines = [line]
    yield b"".join(lines)
