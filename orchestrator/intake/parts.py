"""Finding what the writer wrote among the parts of a mail (RFC 2045, RFC 2046).

The parts are found by their boundaries alone, in place, and only those with text are decoded: an attachment costs
nothing, however large. Limits on headers, parts, depth and text bound the time that any mail can take.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.utils import collapse_rfc2231_value

from orchestrator.intake.characters import DAMAGED_TEXT, clean_text, decode_base64, decode_quoted, decode_text
from orchestrator.intake.fields import HEADER_LIMIT, Fields, header_end
from orchestrator.intake.markup import html_to_text
from orchestrator.intake.quoting import unflow

PART_LIMIT = 200
"""How many parts are looked at."""
DEPTH_LIMIT = 20
"""How deep parts in parts are looked at."""
SEARCH_LIMIT = 128 * 1024 * 1024
"""How many bytes are searched for boundaries, counted separately for parts in parts: five times the largest mail."""
TEXT_LIMIT = 1024 * 1024
"""How many bytes of text are read, HTML included."""

_FALSE_BOUNDARY_LIMIT = 2000
"""How many lines may begin like a boundary and be none."""
_STRUCTURED_LIMIT = 2000
"""How many characters are read of a field with parameters."""
_ENCODED_LIMIT = 3 * TEXT_LIMIT
"""Quoted-printable makes up to three characters of one."""
_BROKEN_STRUCTURE = "broken structure"
_TEXT_TOO_LONG = "text too long"
_AFTER_BOUNDARY = re.compile(rb"(--)?[ \t]*(?:\r\n|\r|\n|\Z)")


@dataclass(frozen=True)
class Part:
    """One part of a mail, or the whole.

    Args:
        fields: Its header.
        start: Where its body begins in the mail.
        end: Where its body ends.
    """

    fields: Fields
    start: int
    end: int

    @property
    def kind(self) -> str:
        """The media type, lower case; ``text/plain`` if there is none that can be read (RFC 2045 5.2)."""
        return self._message("content-type").get_content_type()

    @property
    def encoding(self) -> str:
        """The transfer encoding, lower case."""
        return self.fields.first("content-transfer-encoding").partition(";")[0].strip().lower()

    @property
    def is_attachment(self) -> bool:
        """Whether the part is a file rather than something said."""
        disposition = self._message("content-disposition").get_content_disposition()
        return disposition == "attachment" or bool(self.parameter("filename", of="content-disposition"))

    def parameter(self, name: str, *, of: str = "content-type") -> str:
        """Return a parameter of a field; empty if there is none that can be read."""
        try:
            value = self._message(of).get_param(name, header=of)
            return collapse_rfc2231_value(value).strip() if value else ""
        except Exception:  # noqa: BLE001 - the standard library raises many kinds on malformed parameters
            return ""

    def _message(self, name: str) -> Message:
        message = Message()
        message[name] = self.fields.first(name)[:_STRUCTURED_LIMIT].encode("ascii", "replace").decode("ascii")
        return message


class MailParts:
    """The parts of one mail, read within the limits.

    Args:
        raw: The mail.
    """

    def __init__(self, raw: bytes) -> None:
        self.problems: list[str] = []
        """What could not be read, in the order of the mail."""
        self._raw = raw
        self._headers_left = HEADER_LIMIT
        self._parts_left = PART_LIMIT
        self._false_boundaries_left = _FALSE_BOUNDARY_LIMIT
        self._text_left = TEXT_LIMIT
        self._search_left = SEARCH_LIMIT
        self._has_text = False
        self.whole = self._open(0, len(raw))

    def text(self) -> str:
        """Return what is said in the mail: plain text where it is offered, else the text of the HTML."""
        text = self._text_of(self.whole, 0)
        if not self._has_text:
            self.problems.append("no text")
        if len(text) > TEXT_LIMIT:
            self.problems.append(_TEXT_TOO_LONG)
        return text[:TEXT_LIMIT]

    def _open(self, start: int, end: int) -> Part:
        """Read the header of a part."""
        head, body = header_end(self._raw, start, end)
        if head - start > self._headers_left:
            self.problems.append("headers too long")
        fields = Fields(self._raw[start : min(head, start + self._headers_left)])
        self._headers_left -= min(head - start, self._headers_left)
        # Without a single field it is no header, but text without the blank line before it.
        return Part(fields, body if fields else start, end)

    def _text_of(self, part: Part, depth: int) -> str:
        if part.kind.startswith("multipart/"):
            return self._text_of_parts(part, depth)
        if part.kind not in {"text/plain", "text/html"} or (part.is_attachment and depth):
            return ""
        text = self._decoded(part)
        if part.kind == "text/html":
            return html_to_text(text)
        if part.parameter("format").lower() != "flowed":
            return text
        return unflow(text, delete_space=part.parameter("delsp").lower() == "yes")

    def _text_of_parts(self, part: Part, depth: int) -> str:
        self._search_left -= part.end - part.start
        if depth == DEPTH_LIMIT or self._search_left < 0:
            self.problems.append("nested too deeply")
            return ""
        parts = [self._open(start, end) for start, end in self._spans(part)]
        if not parts:
            self.problems.append(_BROKEN_STRUCTURE)
            return self._decoded(Part(Fields(b""), part.start, part.end))
        if part.kind != "multipart/alternative":
            texts = [self._text_of(child, depth + 1) for child in parts]
            return "\n".join(text for text in texts if text.strip())
        for child in sorted(parts, key=lambda child: child.kind != "text/plain"):
            if (text := self._text_of(child, depth + 1)).strip():
                return text
        return ""

    def _spans(self, part: Part) -> list[tuple[int, int]]:
        """Find where the parts of a multipart begin and end."""
        spans: list[tuple[int, int]] = []
        begin = -1
        for start, end, last in self._delimiters(part):
            if begin >= 0:
                spans.append((begin, max(begin, start)))
            begin = -1 if last else end
            if begin >= 0 and len(spans) >= self._parts_left:
                self.problems.append("too many parts")
                begin = -1
                break
        if begin >= 0:
            # Many writers forget the last boundary.
            spans.append((begin, part.end))
        self._parts_left -= len(spans)
        return spans

    def _delimiters(self, part: Part) -> Iterator[tuple[int, int, bool]]:
        """Find the boundary lines of a multipart: from where to where, and whether it is the last (RFC 2046 5.1.1)."""
        boundary = part.parameter("boundary").encode("ascii", "replace")
        line = b"\n--" + boundary
        # The line break that ends the header may begin the first boundary.
        at = max(0, part.start - 1)
        while boundary and (at := self._raw.find(line, at, part.end)) >= 0:
            after = _AFTER_BOUNDARY.match(self._raw, at + len(line), part.end)
            if after:
                yield at - self._raw.startswith(b"\r", at - 1), after.end(), bool(after[1])
                at = after.end() - 1
            else:
                at += len(line)
                self._false_boundaries_left -= 1
            if self._false_boundaries_left < 0:
                self.problems.append(_BROKEN_STRUCTURE)
            if self._false_boundaries_left < 0 or (after and after[1]):
                return

    def _decoded(self, part: Part) -> str:
        """Decode a part with text."""
        self._has_text = True
        raw = self._within_limit(self._transferred(part))
        text, problem = decode_text(raw, part.parameter("charset"))
        self.problems += [problem] if problem else []
        return clean_text(text)

    def _transferred(self, part: Part) -> bytes:
        """Undo the transfer encoding (RFC 2045 6)."""
        if not self._text_left:
            return b"\n"
        if part.end - part.start > _ENCODED_LIMIT:
            self.problems.append(_TEXT_TOO_LONG)
        raw = self._raw[part.start : min(part.end, part.start + _ENCODED_LIMIT)]
        match part.encoding:
            case "base64":
                raw, broken = decode_base64(raw)
                self.problems += [DAMAGED_TEXT] if broken else []
            case "quoted-printable":
                raw = decode_quoted(raw)
            case "" | "7bit" | "8bit" | "binary":
                pass
            case _:
                self.problems.append("unknown encoding")
        return raw

    def _within_limit(self, raw: bytes) -> bytes:
        if len(raw) > self._text_left:
            self.problems.append(_TEXT_TOO_LONG)
            # A line is never cut: half a character would look like damage.
            raw = raw[: raw.rfind(b"\n", 0, self._text_left) + 1 or self._text_left]
        self._text_left -= len(raw)
        return raw
