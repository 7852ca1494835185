"""Whatever arrives gives a value, within the time that the limits of the reader allow."""

from __future__ import annotations

import base64
import random
import re
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.capabilities import IncomingMail
from orchestrator.intake.parts import TEXT_LIMIT
from orchestrator.intake.reading import UNPARSEABLE, read_mail, sender_of
from tests.support.damaged_mails import CHARSETS, mutated
from tests.support.deep import DEEP, cases

MUTANTS = cases(5_000, 100_000)
EXAMPLES = cases(300, 5_000)
SECONDS_PER_MAIL = 2.0
ARRIVED = datetime(2025, 3, 4, tzinfo=UTC)
MEGABYTE = 1024 * 1024

_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_SENDER = re.compile(r"|[!-?A-~]{1,64}@[a-z0-9.-]+\.[a-z][a-z0-9-]*")
_MESSAGE_ID = re.compile(r"|<[!-;=?A-~]+@[!-;=?A-~]+>")


def read(raw: bytes) -> IncomingMail:
    return read_mail(raw, delivery="d-1", received_at=ARRIVED)


def check(raw: bytes) -> None:
    began = time.process_time()
    mail = read(raw)
    assert time.process_time() - began <= SECONDS_PER_MAIL
    assert mail.unreadable != UNPARSEABLE
    assert not _UNWANTED.search(mail.text)
    assert not _UNWANTED.search(mail.subject)
    assert "\n" not in mail.subject
    assert len(mail.text) <= TEXT_LIMIT
    assert _SENDER.fullmatch(mail.sender)
    assert _MESSAGE_ID.fullmatch(mail.message_id)
    assert sender_of(raw) == mail.sender
    assert IncomingMail.model_validate_json(mail.model_dump_json()) == mail


@pytest.mark.parametrize("tenth", range(10))
def test_every_mutated_mail_gives_a_value(tenth: int) -> None:
    for number in range(tenth, MUTANTS, 10):
        try:
            check(mutated(number))
        except AssertionError as broken:
            broken.add_note(f"mutant number {number}")
            raise


@settings(max_examples=EXAMPLES, deadline=None, derandomize=not DEEP, database=None)
@given(st.binary(max_size=3000))
def test_any_bytes_give_a_value(raw: bytes) -> None:
    check(raw)


TOKENS = st.sampled_from([
    "From: ", "To: ", "Subject: ", "Message-ID: ", "Content-Type: ", "Content-Transfer-Encoding: base64",
    "text/html", "multipart/mixed", "text/plain", "message/rfc822", '; boundary="b"', "; charset=utf-7",
    "; charset=hz", "; charset*0*=x", "; format=flowed", "a@example.com", "<a@example.com>", "=?utf-8?q?=41?=",
    "=?", "?=", "--b", "--b--", "<blockquote>", "<script>", "<!--", "&#x", "> ", "On 1:10 a wrote:", "(", ")", '"',
    "\\", ",", ";", "\n", "\n\n", "\r\n", "\r", " ", "\t", "\u00e9", "\x00",
])  # fmt: skip


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=not DEEP,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(TOKENS, max_size=80))
def test_any_composition_of_what_mails_are_made_of_gives_a_value(tokens: list[str]) -> None:
    check("".join(tokens).encode())


def _mail(content_type: str, body: bytes, *, encoding: str = "8bit") -> bytes:
    header = f"From: a@example.com\nContent-Type: {content_type}\nContent-Transfer-Encoding: {encoding}\n\n"
    return header.encode() + body


def _nested(depth: int) -> bytes:
    return b"".join(b'Content-Type: multipart/mixed; boundary="%05d"\n\n--%05d\n' % (at, at) for at in range(depth))


def _html(piece: bytes) -> bytes:
    return _mail("text/html", piece * (MEGABYTE // len(piece)))


def _parts(part: bytes, count: int) -> bytes:
    return _mail('multipart/mixed; boundary="b"', (b"--b\n" + part) * count)


BOMBS: dict[str, Callable[[], bytes]] = {
    "parentheses in From": lambda: b"From: " + b"(" * 100_000 + b"\n\n",
    "parentheses in Subject": lambda: b"Subject: " + b"(" * 100_000 + b"\n\n",
    "addresses in From": lambda: b"From: " + b"a@b.example," * 300 + b"\n\n",
    "many From fields": lambda: b"From: a@b.example\n" * 14_000 + b"\n",
    "tiny fields": lambda: b"a:\n" * 90_000 + b"\n",
    "fields without end": lambda: b"a:\r" * 8 * MEGABYTE,
    "continuation lines": lambda: b"Subject: a\n" + b" \n" * 120_000 + b"\n",
    "encoded words": lambda: b"Subject: " + b"=?utf-8?q?a?= " * 20_000 + b"\n\n",
    "unfinished encoded words": lambda: b"Subject: " + b"=?a?q?" * 40_000 + b"\n\n",
    "charsets in words": lambda: b"Subject: " + b"".join(b"=?x%d?b?QQ?=" % at for at in range(20_000)) + b"\n\n",
    "parameters": lambda: _mail("text/plain" + ";" * 200_000, b""),
    "quotes in parameters": lambda: _mail("text/plain;" + 'a="' * 60_000, b""),
    "pieces of parameters": lambda: _mail("text/plain" + ";charset*1=a" * 20_000, b""),
    "nested parts": lambda: b"From: a@example.com\n" + _nested(50_000),
    "nested parts of one boundary": lambda: b'Content-Type: multipart/mixed; boundary="b"\n\n--b\n' * 50_000,
    "large nested parts": lambda: _nested(19) + b"\n--" * 8 * MEGABYTE,
    "large nested parts of almost boundaries": lambda: _nested(19) + b"\n--0000" * 3 * MEGABYTE,
    "forwarded mails": lambda: b"Content-Type: message/rfc822\n\n" * 50_000,
    "parts": lambda: _parts(b"", 6 * MEGABYTE),
    "parts with long headers": lambda: _parts(b"a:\n" * 20_000, 200),
    "parts in parts": lambda: _parts(b'Content-Type: multipart/mixed; boundary="b2"\n\n' + b"--b2\n" * 20_000, 200),
    "almost boundaries": lambda: _parts(b"\n--bX" * 5 * MEGABYTE, 1),
    "boundaries with long tails": lambda: _parts(b"\n--b" + b" " * 100_000 + b"x\n", 200),
    "broken base64 parts": lambda: _parts(b"Content-Transfer-Encoding: base64\n\n" + b"!" * 120_000 + b"\n", 200),
    "HTML parts": lambda: _parts(b"Content-Type: text/html\n\n" + b"<a>" * 40_000 + b"\n", 200),
    "one line of 10 MB": lambda: _mail("text/plain", b"x" * 10 * MEGABYTE),
    "one field of 10 MB": lambda: b"Subject: " + b"x" * 10 * MEGABYTE + b"\n\n",
    "25 MB without a line break": lambda: b"x" * 25 * MEGABYTE,
    "25 MB of line breaks": lambda: b"\n" * 25 * MEGABYTE,
    "blank lines": lambda: _mail("text/plain", b"\n" * MEGABYTE),
    "flowed lines": lambda: _mail("text/plain; format=flowed", b" \n" * (MEGABYTE // 2)),
    "quoted lines": lambda: _mail("text/plain", b">\n" * (MEGABYTE // 2)),
    "attributions": lambda: _mail("text/plain", b"On wrote 2025:\n>\n" * (MEGABYTE // 20)),
    "almost attributions": lambda: _mail("text/plain", b"On \n" * (MEGABYTE // 4)),
    "letterheads": lambda: _mail("text/plain", b"From:\n" * (MEGABYTE // 6)),
    "dashes": lambda: _mail("text/plain", b"-" * MEGABYTE),
    "spaces": lambda: _mail("text/plain", b" " * MEGABYTE),
    "long entities": lambda: _mail("text/html", b"&#" + b"1" * MEGABYTE),
    "base64": lambda: _mail("text/plain", base64.encodebytes(random.Random(1).randbytes(MEGABYTE)), encoding="base64"),
    "padding": lambda: _mail("text/plain", b"A=" * 2 * MEGABYTE, encoding="base64"),
    "quoted-printable": lambda: _mail("text/plain", b"=\n" * 2 * MEGABYTE, encoding="quoted-printable"),
}  # fmt: skip
MARKUP = (
    "<", "<a ", "<a>", "<br>", "<p>x", "<pre>\n", "</", "<!", "<?", "<!--", "<!---->", "<script>", "<script></script>",
    "<blockquote>", "<blockquote><pre>\n", "<td>", "&", "&amp", "&#1;", "&aaaaaaa",
)  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_crafted_mail_costs_no_more_than_its_limits(name: str) -> None:
    check(BOMBS[name]())


@pytest.mark.parametrize("piece", MARKUP)
def test_a_megabyte_of_any_markup_is_read_in_time(piece: str) -> None:
    check(_html(piece.encode()))


def _every_kind_of_damage(charset: str) -> Iterable[bytes]:
    for piece in (b"\xff", b"\x1b$B\xff", b"+", b"~{\x80", random.Random(charset).randbytes(MEGABYTE)):
        yield _mail(f"text/plain; charset={charset}", piece * (MEGABYTE // len(piece)))


@pytest.mark.parametrize("charset", CHARSETS)
def test_a_megabyte_of_damage_in_any_charset_is_read_in_time(charset: str) -> None:
    for raw in _every_kind_of_damage(charset):
        check(raw)
