"""The one byte form of a JSON document, so that a hash means something.

For the documents that the record holds (ASCII keys, no floats, integers below 2^53) the result equals
RFC 8785 (JSON Canonicalization Scheme).
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

LARGEST_INTEGER = 2**53 - 1
"""RFC 8785 3.2.2.3: larger integers do not survive as IEEE 754 doubles."""


def canonical(document: object) -> bytes:
    """Return the canonical bytes of a document.

    Raises:
        ValueError: The document holds something that has no single byte form: a float, an integer
            beyond 2^53, a key that is not ASCII text, a lone surrogate, or no JSON at all.
    """
    _refuse_ambiguous(document)
    return _ENCODER.encode(document).encode("utf-8")  # UnicodeEncodeError, for a lone surrogate, is a ValueError


def read_canonical(written: bytes) -> Any:
    """Return the document that has these canonical bytes.

    Raises:
        ValueError: They are not the canonical bytes of any document.
    """
    text = written.decode("utf-8")
    document = _DECODER.decode(text)
    if not text.isascii():  # a key may be what is not
        _refuse_ambiguous(document)
    if _ENCODER.encode(document) != text:
        raise ValueError("a recorded document is not in its canonical form")
    return document


def _small(digits: str) -> int:
    number = int(digits)
    if abs(number) > LARGEST_INTEGER:
        raise ValueError("an integer of a recorded document is beyond 2^53")
    return number


def _refuse_number(digits: str) -> NoReturn:
    raise ValueError(f"{digits} has no canonical form in the record")


_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_DECODER = json.JSONDecoder(parse_int=_small, parse_float=_refuse_number, parse_constant=_refuse_number)


def _refuse_ambiguous(node: object) -> None:
    # Plain checks, the most frequent first: this is asked of every value of every event.
    if node is None or isinstance(node, str | bool):
        return
    if isinstance(node, dict):
        for key, item in node.items():
            if not isinstance(key, str) or not key.isascii():
                raise ValueError("a key of a recorded document must be ASCII text")
            if item is not None and type(item) is not str:
                _refuse_ambiguous(item)
    elif isinstance(node, list | tuple):
        for item in node:
            _refuse_ambiguous(item)
    elif not isinstance(node, int) or abs(node) > LARGEST_INTEGER:
        raise ValueError(f"a value of type {type(node).__name__} has no canonical form in the record")
