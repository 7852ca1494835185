"""Turning a mail's bytes into clean text, whatever the mail says about itself."""

from __future__ import annotations

import binascii
import codecs
import re

UNKNOWN_CHARSET = "unknown charset"
DAMAGED_TEXT = "damaged text"

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:()+-]{0,39}")
_CHARSETS = re.compile(
    r"big5|cp|euc_|gb|hp-roman|hz|iso2022|iso8859|johab|koi8|kz1048|mac-|ptcp154|shift_jis|tis-620|utf-"
)
"""How the names of Python's codecs for charsets begin. Others, like "idna" or "unicode_escape", are codecs for
something else; ASCII is left out because UTF-8, which is tried without any charset, says the same and more."""
_SUPERSETS = {
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "shift_jis": "cp932",
}
"""What writers mean by a label (https://encoding.spec.whatwg.org/#names-and-labels)."""
_LABELS_UNKNOWN_TO_PYTHON = {
    "iso-8859-8-e": "iso8859-8",
    "iso-8859-8-i": "iso8859-8",
    "x-gbk": "gbk",
    "x-sjis": "cp932",
}

_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")
_BASE64_LINES = re.compile(rb"[A-Za-z0-9+/\s]*=?\s*=?\s*")

_DIRECTIONS = "\u202a-\u202e\u2066-\u2069"
"""Marks that make text look other than it is; they never carry meaning of their own."""
_UNWANTED = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff{_DIRECTIONS}]")
_LINE_BREAKS = re.compile("\r\n?|\u2028|\u2029|\x0b|\x0c|\x85")
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")


def decode_text(raw: bytes, charset: str) -> tuple[str, str]:
    """Decode text by its declared charset, and by the likeliest one if that fails.

    Args:
        raw: The text.
        charset: What the mail declares; empty if nothing.

    Returns:
        The text, and what went wrong; empty if every character is what the writer wrote.
    """
    codec = _codec(charset)
    for strict in _worth_trying(codec, raw):
        try:
            return raw.decode(strict), ""
        except ValueError:
            continue
    if codec:
        return raw.decode(codec, "replace"), DAMAGED_TEXT
    return raw.decode("cp1252", "replace"), UNKNOWN_CHARSET


def decode_base64(raw: bytes) -> tuple[bytes, bool]:
    """Decode base64 as far as it goes (RFC 2045 6.8: foreign characters are skipped).

    Returns:
        The bytes, and whether the encoding was broken.
    """
    matched = _BASE64_LINES.match(raw)
    broken = matched is None or matched.end() < len(raw)
    letters = _NOT_BASE64.sub(b"", raw)
    # One letter alone carries 6 bits: no byte can be made of it.
    rest = len(letters) % 4
    whole = letters[:-1] if rest == 1 else letters
    return binascii.a2b_base64(whole + b"=" * (-len(whole) % 4)), broken or rest == 1


def decode_quoted(raw: bytes, *, header: bool = False) -> bytes:
    """Decode quoted-printable (RFC 2045 6.7), or the Q encoding of a header (RFC 2047 4.2)."""
    return binascii.a2b_qp(raw, header=header)


def clean_text(text: str) -> str:
    """Normalise line ends and remove what is no text: controls, marks of direction, halves of characters."""
    lines = _LINE_BREAKS.sub("\n", text)
    return _LONE_SURROGATES.sub("\ufffd", _UNWANTED.sub("", lines))


def clean_line(text: str) -> str:
    """Make clean text of one line."""
    return " ".join(clean_text(text).split())


def _worth_trying(codec: str, raw: bytes) -> list[str]:
    # Text that switches to other letters by an escape (ISO 2022) is ASCII to the eye, and UTF-8 by mistake.
    return [name for name in (codec, "" if b"\x1b" in raw else "utf-8") if name]


def _codec(charset: str) -> str:
    label = charset.strip().lower()
    if not _LABEL.fullmatch(label):
        return ""
    try:
        name = codecs.lookup(_LABELS_UNKNOWN_TO_PYTHON.get(label, label)).name
    except (LookupError, ValueError):
        return ""
    return _SUPERSETS.get(name, name) if _CHARSETS.match(name) else ""
