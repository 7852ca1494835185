"""Which mails plainly say that a download was lost. Every other mail goes to a person.

The rule is narrow on purpose: to answer a complaint with a link is worse than to let a person read a request. So a
mail is served only if *each* of its clauses is understood. The clauses stand in ``phrases/*.txt``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from flows.phrasing import Phrases, phrases

MOST_WORDS = 60
"""A longer mail has more to say than that a download is lost."""

_APOSTROPHES = re.compile("['`\u00b4\u2018\u2019\u02bc]")
_REPLY = re.compile(r"^(?:(?:re|aw|fw|fwd)\s*:\s*)+", re.IGNORECASE)
_HARD = re.compile(r"[.?!;:\u2026()\"\u201c\u201d]+(?=\s|$)|\n\s*\n")
"""Where a sentence ends for certain. At the others it may go on: a line, a comma, a conjunction."""
_WORD = re.compile(r"\w+")
_SOFT = (
    re.compile(r"\n"),
    re.compile(r"\s*,\s*|\s+[-\u2013\u2014]+\s+"),
    re.compile(r"(?:^|\s+)(?:and|but|so|because)\s+"),
)
_SIGNATURE = re.compile(r"\n\s*[A-Z][\w.-]*(?: [A-Z][\w.-]*){0,2}\s*$")
"""A name of up to three words in the last line, each with a capital."""
_KINDS = ("REQUEST", "CAUSE", "BESIDE", "COURTESY")


def asks_for_download(subject: str, text: str) -> bool:
    """Tell whether a mail plainly says that a download was lost, and nothing else.

    Args:
        subject: The mail's subject.
        text: What its writer wrote, without what they quote.

    Returns:
        False in doubt: then a person reads the mail.
    """
    if len(f"{subject} {text}".split()) > MOST_WORDS:
        return False
    english, headline, body = phrases("english"), _plain(_REPLY.sub("", subject.strip())), _plain(text)
    if english.occurs("OTHER MATTER", " ".join(_WORD.findall(f"{headline}\n{body}"))):
        return False
    clauses = [*_clauses(_plain(_SIGNATURE.sub("", f"\n{text}")), english)]
    headline = headline.strip(" .?!:-")
    if headline and not english.fits("SUBJECT", headline):
        clauses += _clauses(headline, english)
    kinds = {_kind(clause, english) for clause in clauses}
    of_thing = any(english.occurs("HEAD", clause) or english.fits("BOUGHT", clause) for clause in (headline, *clauses))
    return "" not in kinds and of_thing and bool(kinds & {"REQUEST", "CAUSE"})


def _plain(text: str) -> str:
    return "\n".join(" ".join(line.split()) for line in _APOSTROPHES.sub("", text).casefold().splitlines())


def _clauses(text: str, known: Phrases) -> Iterator[str]:
    for sentence in _HARD.split(text):
        yield from _parts(sentence, known, _SOFT)


def _parts(sentence: str, known: Phrases, ends: Sequence[re.Pattern[str]]) -> Iterator[str]:
    """Split a sentence at as few places as make it understood."""
    said = " ".join(sentence.replace(",", " ").split())
    if not ends or not said or _kind(said, known):
        yield from filter(None, [said])
        return
    for part in ends[0].split(sentence.strip()):
        yield from _parts(part, known, ends[1:])


def _kind(clause: str, known: Phrases) -> str:
    """Return which list a clause fits; empty if it is not understood."""
    return next((kind for kind in _KINDS if known.fits(kind, clause)), "")
