"""Phrases that people use, in ``phrases/*.txt``: lists that refer to each other, matched word by word.

How a list is written stands at the top of the files. Matching follows all ways at once, so no text makes it slow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "phrases"
MOST_WORDS_OF_A_NAME = 5

_ELEMENT = re.compile(r"\((?P<optional>[^)]*)\)|\[(?P<one>[^]]*)\]|(?P<bare>\S+)")
_NUMBER = re.compile(r"#?[a-z]{0,4}-?\d[\w./-]*")
_Words = Sequence[str]


@dataclass(frozen=True)
class _Element:
    alternatives: tuple[str, ...]
    optional: bool = False
    repeated: bool = False


class Phrases:
    """The lists of one file.

    Args:
        text: The file: a list begins with its name in brackets, each line below is one phrase.
    """

    def __init__(self, text: str) -> None:
        self._lists: dict[str, list[tuple[_Element, ...]]] = {}
        lines: list[tuple[_Element, ...]] = []
        for line in text.splitlines():
            if line.startswith("[") and line.endswith("]") and line[1:-1].isupper():
                lines = self._lists[line[1:-1]] = []
            elif line and not line.startswith("#"):
                lines.append(tuple(_elements(line)))
        self._not_in_names = {each for line in self._lists["NOT A NAME"] for each in line[0].alternatives}

    def fits(self, name: str, said: str) -> bool:
        """Tell whether a text as a whole is a phrase of the list with this name."""
        words = tuple(said.split())
        return len(words) in _Match(self, words).ends(name, 0)

    def occurs(self, name: str, said: str) -> bool:
        """Tell whether a phrase of the list stands anywhere in a text."""
        words = tuple(said.split())
        match = _Match(self, words)
        return any(match.ends(name, start) for start in range(len(words)))

    def lines(self, name: str) -> list[tuple[_Element, ...]] | None:
        """Return the phrases of a list; None if there is no list with this name."""
        return self._lists.get(name)

    def may_name(self, word: str) -> bool:
        """Tell whether a word may be part of a product's or a person's name."""
        return word not in self._not_in_names


class _Match:
    """Where phrases end in one text, each place looked at once."""

    def __init__(self, phrases: Phrases, words: _Words) -> None:
        self._phrases = phrases
        self._words = words
        self._known: dict[tuple[str, int], frozenset[int]] = {}

    def ends(self, alternative: str, start: int) -> frozenset[int]:
        """Return where the alternative may end that begins at this word: a list's name, or some words."""
        key = (alternative, start)
        if key not in self._known:
            self._known[key] = frozenset(self._ends(alternative, start))
        return self._known[key]

    def _ends(self, alternative: str, start: int) -> Iterable[int]:
        match alternative:
            case "WORDS":
                return self._ends_of_name(start, MOST_WORDS_OF_A_NAME)
            case "FIRST NAME":
                return self._ends_of_name(start, 1)
            case "NUMBER":
                return [start + 1] if _NUMBER.fullmatch("".join(self._words[start : start + 1])) else []
        lines = self._phrases.lines(alternative)
        if lines is not None:
            return {end for line in lines for end in self._ends_of_line(line, start)}
        words = alternative.split()
        if len(words) > 1:
            return self._ends_of_line([_Element((word,)) for word in words], start)
        return [start + 1] if self._words[start : start + 1] == tuple(words) else []

    def _ends_of_line(self, line: Sequence[_Element], start: int) -> set[int]:
        places = {start}
        for element in line:
            reached = self._after(element, places)
            if element.repeated:
                places |= self._all_after(element, reached)
            else:
                places = places | reached if element.optional else reached
        return places

    def _after(self, element: _Element, places: Iterable[int]) -> set[int]:
        return {end for place in places for each in element.alternatives for end in self.ends(each, place)}

    def _all_after(self, element: _Element, reached: set[int]) -> set[int]:
        while not (more := self._after(element, reached)) <= reached:
            reached |= more
        return reached

    def _ends_of_name(self, start: int, most: int) -> Iterable[int]:
        for place in range(start, min(start + most, len(self._words))):
            if not self._phrases.may_name(self._words[place]):
                return
            yield place + 1


@cache
def phrases(language: str) -> Phrases:
    """Return the phrases of a language, by the name of its file."""
    return Phrases((FOLDER / f"{language}.txt").read_text(encoding="utf-8"))


def _elements(line: str) -> Iterable[_Element]:
    for found in _ELEMENT.finditer(line):
        written = found["optional"] or found["one"] or found["bare"]
        repeated = written.endswith("*")
        alternatives = tuple(each.strip() for each in written.removesuffix("*").split("|"))
        yield _Element(alternatives, optional=found["optional"] is not None, repeated=repeated)
