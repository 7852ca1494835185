"""The lines of a mail: putting flowed ones together, and leaving out those that the writer only quotes."""

from __future__ import annotations

import re

LINE_LIMIT = 50_000
"""How many lines are looked at; what follows is kept as it is."""

_OPENINGS = ("On ", "Am ", "Le ", "El ", "Il ", "Op ", "Em ", "Den ", "W dniu ")
_VERBS = ("wrote", "schrieb", "a écrit", "escribió", "ha scritto", "schreef", "escreveu", "skrev", "napisał")
_MOMENT = re.compile(r"\b(?:19|20)[0-9]{2}\b|\b[0-9]{1,2}[:.h][0-9]{2}\b")
_ATTRIBUTION_LINES = 3
_ATTRIBUTION_LENGTH = 400
"""How many characters "On ... wrote:" may have."""
_ORIGINAL = re.compile(
    r"[\s*]*-{2,}\s?(?:Original Message|Original-Nachricht|Ursprüngliche Nachricht|Message d'origine|Mensaje original|"
    r"Messaggio originale|Oorspronkelijk bericht|Mensagem original|Original Appointment)\s?-{2,}\s*",
    re.IGNORECASE,
)
_FORWARDED = re.compile(
    r"\s*-{2,}\s?(?:Forwarded message|Weitergeleitete Nachricht|Message transféré|Mensaje reenviado)\s?-{2,}\s*|"
    r"\s*(?:Begin forwarded message|Anfang der weitergeleiteten Nachricht)\s?:\s*",
    re.IGNORECASE,
)
"""What follows is handed on by the writer, not just quoted."""
_LABELLED = re.compile(r"[\s*_]{0,4}([^\W\d_]{1,12})\s?\*?\s?:")
_WRITER = frozenset({"from", "von", "de", "da", "van", "från", "fra"})
"""How the letterhead of a quoted mail begins."""
_LETTERHEAD = frozenset((
    "sent", "date", "to", "cc", "subject", "gesendet", "datum", "an", "betreff", "envoyé", "à", "objet", "enviado",
    "fecha", "para", "asunto", "inviato", "a", "oggetto", "verzonden", "aan", "onderwerp", "data", "assunto", "skickat",
    "till", "ämne", "sendt", "til", "emne",
))  # fmt: skip
"""What stands below in the letterhead of a quoted mail, in the languages of the more common mail programs."""
_RULE = re.compile(r"[\s_-]*")


def unflow(text: str, *, delete_space: bool) -> str:
    """Put the lines of each paragraph together again (RFC 3676 4).

    Args:
        text: Lines, ended by newlines.
        delete_space: Whether the space at the end of a flowed line is no part of the text (``DelSp=yes``).
    """
    paragraphs: list[list[str]] = []
    goes_on = False
    for line in text.split("\n", LINE_LIMIT):
        quoted = line.startswith(">")
        plain = line if quoted else line.removeprefix(" ")
        flowed = not quoted and plain.endswith(" ") and plain != "-- "
        said = plain[:-1] if flowed and delete_space else plain
        if goes_on and not quoted:
            paragraphs[-1].append(said)
        else:
            paragraphs.append([said])
        goes_on = flowed
    return "\n".join("".join(lines) for lines in paragraphs)


def new_text(text: str) -> str:
    """Leave out what is only quoted from an earlier mail; keep all if nothing else is said."""
    return _without_quotes(text.split("\n", LINE_LIMIT)) or text.strip()


def _without_quotes(lines: list[str]) -> str:
    kept: list[str] = []
    position = 0
    while position < len(lines):
        if _FORWARDED.fullmatch(lines[position]):
            kept += lines[position:]
            break
        if _is_letterhead(lines, position):
            while kept and _RULE.fullmatch(kept[-1]):
                kept.pop()
            break
        length = _attribution_length(lines, position)
        if length and not _is_quoted(_next_said(lines, position + length)):
            # The earlier mail follows without marks: nothing behind it is told apart from it.
            break
        if not length and not _is_quoted(lines[position]):
            kept.append(lines[position])
        position += length or 1
    return "\n".join(kept).strip()


def _is_quoted(line: str) -> bool:
    return line.lstrip().startswith(">")


def _next_said(lines: list[str], position: int) -> str:
    """Return the next line that is not blank; empty if there is none near."""
    return next((line for line in lines[position : position + 3] if line.strip()), "")


def _attribution_length(lines: list[str], position: int) -> int:
    """Return how many lines say "On ... wrote:" from here; 0 if none."""
    if not lines[position].lstrip().startswith(_OPENINGS):
        return 0
    said = ""
    for length in range(1, _ATTRIBUTION_LINES + 1):
        line = lines[position + length - 1].strip() if position + length <= len(lines) else ""
        said = f"{said} {line}"
        if not line or len(said) > _ATTRIBUTION_LENGTH:
            return 0
        if said.endswith(":") and any(verb in said for verb in _VERBS) and _MOMENT.search(said):
            return length
    return 0


def _is_letterhead(lines: list[str], position: int) -> bool:
    """Tell whether the fields of an earlier mail begin here ("From: ... Sent: ... Subject: ..."), as Outlook quotes."""
    if _ORIGINAL.fullmatch(lines[position]):
        return True
    if _label(lines[position]) not in _WRITER:
        return False
    following = {_label(line) for line in lines[position + 1 : position + 6]}
    return len(following & _LETTERHEAD) >= 2  # noqa: PLR2004 - one alone may be the writer's own words


def _label(line: str) -> str:
    matched = _LABELLED.match(line)
    return matched[1].lower() if matched else ""
