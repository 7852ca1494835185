"""Which of their purchases a customer means by a few loose English words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from orchestrator.capabilities import Purchase

_WORD = re.compile(r"\w+")
_INSIDE_A_WORD = re.compile(r"(?<=\w)['\u2019](?=\w)|(?<=\b\w)-(?=\w)")
"""What "maker's" and "e-book" hold: else an "it's" or an "e-mail" would point at them."""
_NOISE = frozenset((
    "a", "all", "an", "and", "are", "as", "at", "be", "by", "can", "do", "for", "from", "have", "how", "i", "in",
    "is", "it", "its", "me", "my", "new", "no", "not", "of", "on", "or", "so", "the", "this", "to", "up", "we",
    "what", "with", "without", "you", "your"
))  # fmt: skip


def meant_by(text: str, purchases: Sequence[Purchase]) -> tuple[Purchase, ...]:
    """Return the purchases that a customer's loose words point at.

    A word points at a product if it stands in that product's name and not in the name of another
    product that the same customer bought: "the watercolor course" of two courses is the one.

    Returns:
        Those purchases, in their order; empty if the words point at none.
    """
    said = _words(text)
    named = Counter(word for product in {p.product for p in purchases} for word in _words(product))
    return tuple(p for p in purchases if any(named[word] == 1 for word in _words(p.product) & said))


def _words(text: str) -> set[str]:
    return {word for word in _WORD.findall(_INSIDE_A_WORD.sub("", text.casefold())) if word not in _NOISE}
