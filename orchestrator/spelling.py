"""Which name was probably meant: the remedy in every message about an unknown name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name most like the word, None if none is much like it."""
    spellings = {_plain(name): name for name in known}
    matches = get_close_matches(_plain(word), spellings, n=1)
    return spellings[matches[0]] if matches else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """Say what to write instead of an unknown name: the nearest name, or else every known one."""
    names = sorted(known)
    if (match := nearest(word, names)) is not None:
        return f'did you mean "{match}"?'
    return f"known: {', '.join(names)}" if names else "there are none"


def _plain(word: str) -> str:
    return word.casefold().replace("-", "_")
