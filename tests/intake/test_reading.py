from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orchestrator.capabilities import IncomingMail
from orchestrator.intake.reading import read_mail, sender_of
from tests.support.paths import MAILS

ARRIVED = datetime(2025, 3, 4, 10, 30, tzinfo=UTC)
OWN_ADDRESSES = frozenset({"shop@example.org", "support@example.org"})

EXPECTED: dict[str, dict[str, str]] = {
    "bounce-plain": {
        "sender": "mailer-daemon@mx.example.com",
        "subject": "Mail delivery failed: returning message to sender",
        "text": "This message was created automatically by mail delivery software.\n\n"
        "A message that you sent could not be delivered to one of its recipients.",
        "message_id": "<E1tpPpQ-0001Ab-Cd@mx.example.com>",
        "automatic": "delivery report",
    },
    "bounce-report": {
        "sender": "mailer-daemon@mail.example.com",
        "subject": "Delivery Status Notification (Failure)",
        "text": "Your message wasn't delivered because the address couldn't be found.",
        "message_id": "<67c6d5e4.050a0220.1b2c3d.4e5f.GMR@mail.example.com>",
        "automatic": "delivery report",
    },
    "broken-base64": {
        "sender": "finn@example.com",
        "subject": "lost file",
        "text": "I lost my download link.",
        "message_id": "<b1@example.com>",
        "unreadable": "damaged text",
    },
    "broken-boundary": {
        "sender": "gail@example.com",
        "subject": "lost video",
        "text": "--used\nContent-Type: text/plain\n\nWhere is my video?\n--used--",
        "message_id": "<bb1@example.com>",
        "unreadable": "broken structure",
    },
    # The name pretends an address of its own; whoever the angle brackets name is who wrote.
    "display-name": {"sender": "mallory@example.org", "subject": "my link", "text": "Send it again."},
    "empty": {"unreadable": "no mail"},
    "file-names": {
        "sender": "ida@example.com",
        "subject": "lost download",
        "text": "See the picture: the link is dead.\nIda",
        "message_id": "<f1@example.com>",
    },
    "flowed": {
        "sender": "mia@example.com",
        "subject": "Re: Your order 1004",
        "text": "I was away for a week, and now the link is dead.\nFrom what I see it has expired.\n\n-- \nMia",
        "message_id": "<fl1@example.com>",
    },
    "forwarded": {
        "sender": "leo@example.com",
        "subject": "Fwd: Your order",
        "text": "This is the order I lost.",
        "message_id": "<l1@example.com>",
    },
    "gb18030": {
        "sender": "li@example.com",
        "subject": "下载链接丢失",
        "text": "请再发一次下载链接，谢谢。镕𠀀",  # noqa: RUF001 - that is how Chinese is punctuated
        "message_id": "<g1@example.com>",
    },
    "gmail-plain": {
        "sender": "ann.lee@example.com",
        "subject": "Lost download",
        "text": "Hello,\n\nmy computer died. Could you send me the link for Watercolour Basics again?\n\nAnn",
        "message_id": "<CAF=x+Zq_1k2-aB3@mail.example.com>",
    },
    "ios-reply": {
        "sender": "bob@example.com",
        "subject": "Re: Your order 1002",
        "text": "The link doesn\u2019t work any more \U0001f615 can I have a new one?\n\nSent from my iPhone",
        "message_id": "<0F3C5A7E-1B2D-4E5F-8A9B-0C1D2E3F4A5B@example.com>",
    },
    "iso-2022-jp": {
        "sender": "yamada@example.com",
        "subject": "水彩の基礎のダウンロード",
        "text": "リンクが切れました。\nもう一度お願いします。",
        "message_id": "<j1@example.com>",
    },
    "list-mail": {
        "sender": "news@example.com",
        "subject": "Ten ways to find a lost file",
        "text": "Download our guide again.",
        "message_id": "<news.77.abc@bulk.example.com>",
        "automatic": "mailing list",
    },
    "missing-from": {"subject": "lost", "text": "I lost my link.", "message_id": "<m1@example.com>"},
    "nested": {
        "sender": "kim@example.com",
        "subject": "lost",
        "text": "My link is gone.",
        "message_id": "<n1@example.com>",
        "unreadable": "nested too deeply",
    },
    "out-of-office": {
        "sender": "carl@example.com",
        "subject": "Automatic reply: Your downloads",
        "text": "I am away until Monday. If you lost your download link, I cannot help.",
        "message_id": "<9a8b7c6d5e4f@AM0PR04MB0002.eurprd04.prod.example.com>",
        "automatic": "auto-submitted",
    },
    "outlook-html": {
        "sender": "ann.lee@example.com",
        "subject": "AW: Your order 1001",
        "text": "Guten Tag,\n\nich kann das Büchlein für 5 € & die Skizzen nicht öffnen.",
        "message_id": "<AM0PR04MB0001A1B2C3D4@AM0PR04MB0001.eurprd04.prod.example.com>",
    },
    "own-group": {
        "sender": "dora@example.com",
        "subject": "download again",
        "text": "I lost my course files.",
        "message_id": "<CAB=123@mail.example.com>",
    },
    "raw-header": {
        "sender": "juergen@example.com",
        "subject": "Übung macht den Meister \u2013 Datei verloren",
        "text": "Ich finde die Übungen nicht mehr.",
        "message_id": "<raw1@example.com>",
    },
    "raw-latin1-header": {
        "sender": "juergen@example.com",
        "subject": "Übung",
        "text": "Datei weg.",
        "message_id": "<raw2@example.com>",
        "unreadable": "unknown charset",
    },
    "read-receipt": {
        "sender": "ann.lee@example.com",
        "subject": "Read: Your downloads",
        "text": "Your message was read on Tuesday.",
        "message_id": "<r1@example.com>",
        "automatic": "read receipt",
    },
    "two-authors": {"subject": "my link", "text": "Send it again.", "message_id": "<t2@example.com>"},
    "two-froms": {"subject": "my link", "text": "Send it again.", "message_id": "<t1@example.com>"},
    "unknown-charset": {
        "sender": "eve@example.com",
        "subject": "link",
        "text": "My café book is gone.",
        "message_id": "<u1@example.com>",
        "unreadable": "unknown charset",
    },
    "yahoo-reply": {
        "sender": "zoe@example.com",
        "subject": "Re: Your order 1003 \u2013 thanks",
        "text": "Please send the PDF again.",
        "message_id": "<1234567890.123456.1741089600000@mail.example.com>",
    },
}
NOISE = "garbage"


def read(raw: bytes, *, truncated: bool = False) -> IncomingMail:
    return read_mail(raw, delivery="d-1", received_at=ARRIVED, truncated=truncated, own_addresses=OWN_ADDRESSES)


def expected(**values: str) -> IncomingMail:
    known = {"sender": "", "subject": "", "text": "", "message_id": ""} | values
    return IncomingMail(delivery="d-1", received_at=ARRIVED, **known)


def test_each_mail_of_the_corpus_has_its_expectation() -> None:
    assert {path.stem for path in MAILS.glob("*.eml")} == EXPECTED.keys() | {NOISE}


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_a_mail_is_read_as_its_writer_meant_it(name: str, line_end: bytes) -> None:
    raw = (MAILS / f"{name}.eml").read_bytes().replace(b"\n", line_end)
    assert read(raw) == expected(**EXPECTED[name])


@pytest.mark.parametrize("name", EXPECTED)
def test_the_sender_is_the_same_from_the_header_alone(name: str) -> None:
    assert sender_of((MAILS / f"{name}.eml").read_bytes()) == EXPECTED[name].get("sender", "")


def test_noise_is_no_mail_and_has_neither_sender_nor_controls() -> None:
    mail = read((MAILS / f"{NOISE}.eml").read_bytes())
    assert (mail.sender, mail.subject, mail.message_id, mail.unreadable) == ("", "", "", "no mail")
    assert not [letter for letter in mail.text if not letter.isprintable() and letter not in "\n\t\xa0\xad"]


def test_of_a_mail_too_large_for_the_mailbox_the_header_is_read() -> None:
    raw = b"From: ann@example.com\nSubject: my files\nMessage-ID: <big@example.com>\n\n"
    assert read(raw, truncated=True) == expected(
        sender="ann@example.com",
        subject="my files",
        message_id="<big@example.com>",
        unreadable="larger than the mailbox's limit",
    )


MIXED = b'From: ann@example.com\nContent-Type: multipart/mixed; boundary="b"\n\n'
PLAIN = b"From: ann@example.com\n\n"


@pytest.mark.parametrize(
    ("raw", "unreadable"),
    [
        (PLAIN + b"\xe2\x82\xac", ""),
        (PLAIN, ""),
        (b"From: ann@example.com\nX-A: " + b"a" * 270_000 + PLAIN, "headers too long"),
        (MIXED + b"--b\n\nhello\n" * 200, ""),
        (MIXED + b"--b\n\nhello\n" * 201, "too many parts"),
        (MIXED + b"--b\n\nhello\n--bb" + b"\n--bb" * 2000, "broken structure"),
        (MIXED, "broken structure"),
        (b"From: ann@example.com\nContent-Type: multipart/mixed\n\nhello", "broken structure"),
        (PLAIN + b"a\n" * 524_288, ""),
        (PLAIN + b"a\n" * 524_289, "text too long"),
        (
            PLAIN.replace(b"\n\n", b"\nContent-Transfer-Encoding: quoted-printable\n\n") + b"=\n" * 1_600_000,
            "text too long",
        ),
        (b"From: ann@example.com\nContent-Transfer-Encoding: x-uuencode\n\nbegin", "unknown encoding"),
        (b"From: ann@example.com\nContent-Type: image/png\n\n\x89PNG", "no text"),
        (b"From: ann@example.com\nContent-Type: text/plain; charset=utf-8\n\n\xff", "damaged text"),
        (b"From: ann@example.com\nSubject: =?x-klingon?q?=f8?=\n\nhello", "unknown charset"),
        (b"From: ann@example.com\nSubject: =?utf-8?b?*?=\n\nhello", "damaged text"),
    ],
    ids=range(16),
)
def test_what_is_lost_is_said(raw: bytes, unreadable: str) -> None:
    assert read(raw).unreadable == unreadable


def test_an_attachment_is_not_taken_for_the_text_even_if_it_comes_first() -> None:
    attachment = b"--b\nContent-Type: text/plain\nContent-Disposition: attachment\n\n" + b"notes\n" * 400_000
    picture = b"--b\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\n" + b"AAAA\n" * 2_000_000
    mail = read(MIXED + attachment + picture + b"--b\nContent-Type: text/html\n\n<p>my words</p>\n--b--\n")
    assert (mail.text, mail.unreadable) == ("my words", "")


def test_html_is_read_where_the_plain_alternative_is_blank() -> None:
    raw = MIXED.replace(b"mixed", b"alternative") + b"--b\n\n \n--b\nContent-Type: text/html\n\n<b>my</b> words\n--b--"
    assert read(raw).text == "my words"


def test_text_without_the_blank_line_before_it_is_not_lost() -> None:
    assert read(MIXED + b"--b\nmy words\n--b--\n").text == "my words"
