"""What may reach a terminal: text that strangers wrote must not control the screen of whoever reads it."""

from __future__ import annotations

import re
import unicodedata

_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Controls (C0, C1, ESC), format characters (direction, zero width, tags), halves of characters, and separators of
lines and paragraphs: Unicode's general categories (https://www.unicode.org/reports/tr44/#General_Category_Values)."""
_BREAKS = re.compile(r"[\r\n\t]+")
_LINE_ENDS = re.compile(r"\r+\n")


def printable_line(text: str) -> str:
    """Return a text as one line: breaks and tabs are blanks, and what cannot be seen is shown by its number."""
    return _shown(_BREAKS.sub(" ", text), kept="")


def printable_text(text: str) -> str:
    r"""Return a text of several lines: ``\n`` and tabs stay, and what cannot be seen is shown by its number."""
    return _shown(_LINE_ENDS.sub("\n", text), kept="\n\t")


def _shown(text: str, *, kept: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if each in kept or not _unprintable(each) else _number(each) for each in text)


def _unprintable(character: str) -> bool:
    return unicodedata.category(character) in _UNPRINTABLE


def _number(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
