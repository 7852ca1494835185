"""Reducing HTML to the text that a reader sees.

A scanner of our own, because the standard library's ``html.parser`` needs minutes for 100 KB of ``<a <a <a``
(it is quadratic, CVE-2025-6069): here each character is looked at a fixed number of times.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

_MARKUP = re.compile(r"<(?:(/?)([A-Za-z][A-Za-z0-9:-]{0,30})|[!?/])")
_UNSEEN = {
    name: re.compile(rf"</{name}\b", re.IGNORECASE) for name in ("script", "style", "title", "textarea", "template")
}
"""Elements whose content nobody sees, and where it ends."""
_LINES = frozenset((
    "address", "article", "aside", "br", "caption", "center", "dd", "div", "dl", "dt", "footer", "form", "h1", "h2",
    "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section", "table", "tr", "ul",
))  # fmt: skip
"""Elements that begin and end a line."""
_LONG_NUMBER = re.compile(r"&#[xX]?[0-9a-fA-F]{9,}+;?")
"""No character has such a number, and ``html.unescape`` fails on some thousand digits."""
_SPACES = re.compile(r"[ \t\r\n\f\xa0]+")
_BLANK_LINES = re.compile(r"\n{3,}")


def html_to_text(source: str) -> str:
    """Reduce HTML to text; quoted mail (``blockquote``) is marked with ``> ``."""
    page = _Page()
    for text, closing, name in _tokens(source):
        if text:
            page.write(text)
        if name:
            page.tag(name, closing=closing)
    return page.text()


class _Page:
    """The lines written so far."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._line: list[str] = []
        self._depth = 0
        self._preformatted = False

    def write(self, text: str) -> None:
        first, *more = text.split("\n") if self._preformatted else [text]
        self._line.append(_unescaped(first))
        for line in more:
            self._end_line(blank=True)
            self._line.append(_unescaped(line))

    def tag(self, name: str, *, closing: bool) -> None:
        if name == "blockquote":
            self._end_line()
            self._depth = max(0, self._depth - 1) if closing else self._depth + 1
        elif name in _LINES:
            self._end_line(blank=name in {"br", "p"})
            self._preformatted = not closing if name == "pre" else self._preformatted
        elif name in {"td", "th"}:
            self._line.append(" ")

    def text(self) -> str:
        self._end_line()
        return _BLANK_LINES.sub("\n\n", "\n".join(self._lines)).strip("\n")

    def _end_line(self, *, blank: bool = False) -> None:
        line = _SPACES.sub(" ", "".join(self._line)).strip()
        self._line.clear()
        if line or blank:
            self._lines.append(f"> {line}" if self._depth else line)


def _unescaped(text: str) -> str:
    return html.unescape(_LONG_NUMBER.sub("\ufffd", text)) if "&" in text else text


def _tokens(source: str) -> Iterator[tuple[str, bool, str]]:
    """Yield each text with the tag behind it: whether it is a closing one, and its name."""
    position = 0
    while markup := _MARKUP.search(source, position):
        start, (closing, name) = markup.start(), markup.groups("")
        name = name.lower()
        yield source[position:start], bool(closing), name
        position = _behind(source, start, _UNSEEN.get(name) if not closing else None)
    yield source[position:], False, ""


def _behind(source: str, start: int, unseen_end: re.Pattern[str] | None) -> int:
    """Return where the text goes on behind markup; what does not end takes the rest with it, as in a browser."""
    if source.startswith("<!--", start):
        # "<!-->" is a whole comment.
        end = source.find("-->", start + 2)
        return end + 3 if end >= 0 else len(source)
    behind = source.find(">", start) + 1 or len(source)
    if not unseen_end:
        return behind
    seen_again = unseen_end.search(source, behind)
    return seen_again.start() if seen_again else len(source)
