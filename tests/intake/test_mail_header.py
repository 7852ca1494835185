from __future__ import annotations

import pytest

from orchestrator.intake.addresses import message_id_in, sender_in
from orchestrator.intake.characters import decode_base64, decode_text
from orchestrator.intake.fields import Fields, decode_words


@pytest.mark.parametrize(
    ("field", "sender"),
    [
        ("ann@example.com", "ann@example.com"),
        ("<Ann@EXAMPLE.com>", "ann@example.com"),
        ("Ann Lee <ann@example.com>", "ann@example.com"),
        ('"Lee, Ann" <ann@example.com>', "ann@example.com"),
        ("Lee, Ann <ann@example.com>", "ann@example.com"),
        ("ann@example.com (Ann (the first) Lee)", "ann@example.com"),
        ("ann@example.com <ann@example.com>", "ann@example.com"),
        ("=?utf-8?q?bob=40example.org=2C?= <ann@example.com>", "ann@example.com"),
        ('"bob@example.org" <ann@example.com>', "ann@example.com"),
        ('"a \\" <bob@example.org>, " <ann@example.com>', "ann@example.com"),
        ('Ann (") <ann@example.com> (")', "ann@example.com"),
        ("Ann @ Home <ann@example.com>", "ann@example.com"),
        ("ann+files@mail.example.co.uk", "ann+files@mail.example.co.uk"),
        ("o'neil@xn--bcher-kva.example", "o'neil@xn--bcher-kva.example"),
        ("bob@example.org <ann@example.com>", ""),
        ("ann@example.com, bob@example.org", ""),
        ("ann@example.com, <>", ""),
        ("ann@example.com, bob@", ""),
        ("<ann@example.com> <bob@example.org>", ""),
        ("ann@example.com bob@example.org", ""),
        ("<@relay.example.org:ann@example.com>", ""),
        ("friends: ann@example.com;", ""),
        ("undisclosed-recipients:;", ""),
        ('"Ann <ann@example.com>', ""),
        ("Ann (ann@example.com", ""),
        ("Ann) <ann@example.com>", ""),
        ('"ann lee"@example.com', ""),
        ("ann@example.com@example.org", ""),
        ("ann\\@example.org@example.com", ""),
        ("ann@localhost", ""),
        ("ann@192.0.2.1", ""),
        ("ann@[192.0.2.1]", ""),
        ("ann@-example.com", ""),
        ("ann..lee@example.com", ""),
        ("ann@example.com.", ""),
        ("änn@example.com", ""),
        ("ann@exämple.com", ""),
        ("a" * 65 + "@example.com", ""),
        ("ann@example.com" + " " * 4000 + ", bob@example.org", ""),
        ("Ann Lee", ""),
        ("", ""),
    ],
)
def test_the_sender_is_the_one_address_of_the_from_field(field: str, sender: str) -> None:
    assert sender_in(Fields(f"From: {field}".encode())) == sender


@pytest.mark.parametrize(
    "header", [b"From: a@example.com\nFrom: a@example.com", b"FROM : a@example.com\rfrom:x", b"Sender: a@example.com"]
)
def test_without_exactly_one_from_field_there_is_no_sender(header: bytes) -> None:
    assert sender_in(Fields(header)) == ""


def test_a_folded_field_is_one_and_a_line_that_is_no_field_is_passed_over() -> None:
    fields = Fields(b" stray\nno field\nFrom:\r\n\tAnn\r\n <ann@example.com>\n: nameless\nX\xe9: y\nTo: b@example.org")
    assert (sender_in(fields), fields.first("to"), "no field" in fields) == ("ann@example.com", "b@example.org", False)


@pytest.mark.parametrize(
    ("field", "message_id"),
    [
        ("<abc.1$2@mail.example.com>", "<abc.1$2@mail.example.com>"),
        ("  <A@[192.0.2.1]>  ", "<A@[192.0.2.1]>"),
        ("<ABC@HOST>", "<ABC@HOST>"),
        ("<1(a)x:5,6;7@[192.0.2.1]:25>", "<1(a)x:5,6;7@[192.0.2.1]:25>"),
        ("abc@example.com", ""),
        ("<abc@example.com", ""),
        ("<abc>", ""),
        ("<a@b@example.com>", ""),
        ("<a b@example.com>", ""),
        ("<a@example.com> <b@example.com>", ""),
        ("<a\x01@example.com>", ""),
        ("<ä@example.com>", ""),
        ("<>", ""),
        ("", ""),
        ("<" + "a" * 984 + "@example.com>", "<" + "a" * 984 + "@example.com>"),
        ("<" + "a" * 985 + "@example.com>", ""),
    ],
)
def test_a_message_id_is_well_formed_or_missing(field: str, message_id: str) -> None:
    assert message_id_in(Fields(f"Message-ID: {field}".encode())) == message_id


def test_two_message_ids_are_none() -> None:
    assert message_id_in(Fields(b"Message-ID: <a@example.com>\nMessage-ID: <b@example.com>")) == ""


@pytest.mark.parametrize(
    ("field", "text", "problem"),
    [
        (b"plain  words\t here", "plain words here", ""),
        (b"=?utf-8?Q?caf=C3?= =?UTF-8?b?qQ==?=", "café", ""),
        (b"a =?iso-8859-1*fr?q?=E9t=E9?= b", "a été b", ""),
        (b"=?utf-8?q?a?=\t =?iso-8859-1?q?=E9?=", "aé", ""),
        (b"=?utf-8?q?a_b=5F?=,=?utf-8?q?c?=", "a b_,c", ""),
        (b"=?utf-8?q?with space?=", "with space", ""),
        (b"=?utf-8?b?Y2Fmw6k?=", "café", ""),
        (b"caf\xc3\xa9", "café", ""),
        (b"caf\xe9", "café", "unknown charset"),
        (b"=?utf-8?q?line=0D=0Abreak=00=1B?=", "line break", ""),
        (b"=?utf-8?q?=E2=80=AEevil=E2=80=AC?=", "evil", ""),
        (b"=?utf-8?b?%%%?=", "", "damaged text"),
        (b"=?utf-8?x?abc?= =?utf-8?q?abc", "=?utf-8?x?abc?= =?utf-8?q?abc", ""),
        (b"=?unicode_escape?q?=5Cud800?=", "\\ud800", ""),
        (b"=?utf-7?q?+2AA-?=", "\ufffd", ""),
    ],
)
def test_encoded_words_are_decoded_to_one_clean_line(field: bytes, text: str, problem: str) -> None:
    assert decode_words(Fields(b"Subject: " + field).first("subject")) == (text, problem)


@pytest.mark.parametrize(
    ("raw", "charset", "text", "problem"),
    [
        (b"caf\xc3\xa9", "", "café", ""),
        (b"caf\xc3\xa9", "us-ascii", "café", ""),
        (b"caf\xc3\xa9", "x-unknown", "café", ""),
        (b"caf\xe9", "", "café", "unknown charset"),
        (b"\x93hi\x94", "ISO-8859-1", "\u201chi\u201d", ""),
        (b"\xf9\xec\xe5\xed", "iso-8859-8-i", "שלום", ""),
        (b"\x82\xa0", "x-sjis", "あ", ""),
        (b"caf\xc3\xa9", "iso-2022-jp", "café", ""),
        (b"\x1b$B%j", "iso-2022-cn-9", "\x1b$B%j", "unknown charset"),
        (b"\x1b$B\xff", "iso-2022-jp", "\ufffd", "damaged text"),
        (b"bcher-kva", "punycode", "bcher-kva", ""),
        (b"6869", "hex", "6869", ""),
        (b"hello", "../../etc", "hello", ""),
        (b"hello", "a\x00b", "hello", ""),
        (b"hello", "x" * 10_000, "hello", ""),
        (b"h\x00i\x00", "utf-16-le", "hi", ""),
    ],
)
def test_text_is_decoded_by_its_charset_or_the_likeliest_one(raw: bytes, charset: str, text: str, problem: str) -> None:
    assert decode_text(raw, charset) == (text, problem)


@pytest.mark.parametrize(
    ("raw", "decoded"),
    [
        (b"YWJj", (b"abc", False)),
        (b"YWI=\r\n", (b"ab", False)),
        (b"Y Q = =", (b"a", False)),
        (b"YWI", (b"ab", False)),
        (b"YWJjZ", (b"abc", True)),
        (b"Y*WJj", (b"abc", True)),
        (b"YQ==YQ==", (b"a\x06\x10", True)),
        (b"", (b"", False)),
    ],
)
def test_base64_is_decoded_as_far_as_it_goes(raw: bytes, decoded: tuple[bytes, bool]) -> None:
    assert decode_base64(raw) == decoded
