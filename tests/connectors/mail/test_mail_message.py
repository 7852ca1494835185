"""A mail as it goes over the wire: what stands in it, and that nothing a stranger wrote changes its structure."""

from __future__ import annotations

import email
import re
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.capabilities import OutgoingMail
from orchestrator_connectors.mail.message import compose, message_id

SHOP = Address("Büro, Müller & Söhne", addr_spec="support@shop.example")
HEADERS = ["Message-ID", "Date", "From", "To", "Subject", "Auto-Submitted", "MIME-Version", "Content-Type"]
TEXT = st.text(max_size=300) | st.text(alphabet="\r\n.:-=<>@, ABcc\x00\x0b\u2028", max_size=60)
UNHURRIED = settings(deadline=None)


def written(mail: OutgoingMail) -> bytes:
    return compose(mail, sender=SHOP, identifier="<effect-1@shop.example>").as_bytes()


def read(raw: bytes) -> EmailMessage:
    message = email.message_from_bytes(raw, policy=SMTP)
    assert isinstance(message, EmailMessage)
    return message


def test_a_mail_has_exactly_these_headers() -> None:
    mail = OutgoingMail(to="ann@example.com", subject="Hello", text="hi", in_reply_to="<question@example.com>")
    message = read(written(mail))
    date = parsedate_to_datetime(message["Date"])
    assert abs(datetime.now(UTC) - date) < timedelta(minutes=1)
    del message["Date"]
    assert dict(message.items()) == {
        "Message-ID": "<effect-1@shop.example>",
        "From": '"Büro, Müller & Söhne" <support@shop.example>',
        "To": "ann@example.com",
        "Subject": "Hello",
        "In-Reply-To": "<question@example.com>",
        "References": "<question@example.com>",
        "Auto-Submitted": "auto-replied",
        "Content-Type": 'text/plain; charset="utf-8"',
        "Content-Transfer-Encoding": "quoted-printable",
        "MIME-Version": "1.0",
    }


def test_a_mail_that_answers_nothing_is_marked_as_generated() -> None:
    message = read(written(OutgoingMail(to="ann@example.com", subject="Hello", text="hi")))
    assert (message["Auto-Submitted"], message["In-Reply-To"]) == ("auto-generated", None)


@UNHURRIED
@given(subject=TEXT, text=TEXT, html=st.none() | TEXT, in_reply_to=st.none() | TEXT)
def test_no_text_changes_the_structure_of_a_mail(
    subject: str, text: str, html: str | None, in_reply_to: str | None
) -> None:
    mail = OutgoingMail(to="ann@example.com", subject=subject, text=text, html=html, in_reply_to=in_reply_to)
    raw = written(mail)
    message = read(raw)
    allowed = {*HEADERS, "In-Reply-To", "References", "Content-Transfer-Encoding"}
    assert set(message.keys()) <= allowed
    assert len(message.keys()) == len(set(message.keys()))
    assert [address.addr_spec for address in message["To"].addresses] == ["ann@example.com"]
    assert re.fullmatch(rb"(?:[\t\x20-\x7e]{0,997}\r\n)+", raw), "only ASCII, and no line too long"
    assert [part.get_content_type() for part in message.walk() if not part.is_multipart()] == (
        ["text/plain"] if html is None else ["text/plain", "text/html"]
    )


def answered(raw: bytes) -> list[bytes]:
    head = raw.partition(b"\r\n\r\n")[0]
    return re.findall(rb"(?m)^(?:In-Reply-To|References): (.*)\r$", head + b"\r")


@pytest.mark.parametrize(
    "question",
    [
        "<1700000000.1234(web)host:5@[192.0.2.1]:25>",
        "<a,b;c:d@example.com>",
        '<"quoted"\\.part=?utf-8?q?x?=@example.com>',
        "<()@()>",
        f"<{'a' * 450}@{'b' * 450}>",
    ],
)
def test_an_answer_names_its_question_as_that_was_written(question: str) -> None:
    raw = written(OutgoingMail(to="ann@example.com", subject="s", text="t", in_reply_to=question))
    assert answered(raw) == [question.encode()] * 2


NO_ANSWER_TO = [
    "<a b@c>",
    "<a@b>\r\nBcc: <c@d>",
    "<a@b\n>",
    "<a\x00@b>",
    "<a\x7f@b>",
    "<ä@b>",
    "<a@b@c>",
    "<<a@b>>",
    "<@b>",
]


@pytest.mark.parametrize("question", [*NO_ANSWER_TO, f"<{'a' * 451}@b>", f"<a@{'b' * 451}>"])
def test_what_is_not_safe_in_a_header_is_left_out(question: str) -> None:
    raw = written(OutgoingMail(to="ann@example.com", subject="s", text="t", in_reply_to=question))
    assert answered(raw) == []


WORD = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="<>@"), min_size=1)


@UNHURRIED
@given(left=WORD, right=WORD)
def test_whatever_can_be_seen_of_a_message_id_is_kept(left: str, right: str) -> None:
    question = f"<{left}@{right}>"
    raw = written(OutgoingMail(to="ann@example.com", subject="s", text="t", in_reply_to=question))
    assert answered(raw) == [question.encode()] * 2


@UNHURRIED
@given(text=st.text(max_size=500))
def test_a_text_is_read_as_it_was_written(text: str) -> None:
    mail = OutgoingMail(to="ann@example.com", subject="s", text=text)
    lines = re.split(r"\r\n|\r|\n", text)
    assert read(written(mail)).get_content().rstrip("\r\n").split("\r\n") == "\n".join(lines).rstrip("\n").split("\n")


@UNHURRIED
@given(subject=st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=300))
def test_a_subject_is_read_as_it_was_written(subject: str) -> None:
    subject = " ".join(subject.split())
    assert read(written(OutgoingMail(to="ann@example.com", subject=subject, text="t")))["Subject"] == subject


@UNHURRIED
@given(to=st.text(max_size=80) | st.text(alphabet='ab@.<>,;:"\\ \r\n()', max_size=30))
def test_a_recipient_is_one_address_or_refused(to: str) -> None:
    try:
        raw = written(OutgoingMail(to=to, subject="s", text="t"))
    except ValueError:
        return
    (address,) = read(raw)["To"].addresses
    local, _, domain = to.strip().rpartition("@")
    assert (address.username, address.domain) == (local, domain.encode("idna").decode("ascii"))


@pytest.mark.parametrize(
    ("to", "sent"),
    [
        ("ann@example.com", "ann@example.com"),
        (" ann@example.com\n", "ann@example.com"),
        ("o'hara+shop=x@sub.example.co.uk", "o'hara+shop=x@sub.example.co.uk"),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("a..b@docomo.example", "a..b@docomo.example"),  # no dot-atom, and yet some providers gave such addresses out
    ],
)
def test_real_addresses_are_taken(to: str, sent: str) -> None:
    assert read(written(OutgoingMail(to=to, subject="s", text="t")))["To"].addresses[0].addr_spec == sent


@pytest.mark.parametrize("to", ["", "ann", "@", "ann@", "@example.com", "a@b@c", "ännchen@example.com", "a b@c.d"])
def test_what_is_no_plain_address_is_refused(to: str) -> None:
    with pytest.raises(ValueError, match=r"recipient|label"):
        written(OutgoingMail(to=to, subject="s", text="t"))


def test_a_message_id_is_made_from_the_effect_or_at_random() -> None:
    assert message_id("0f3a-9", "shop.example") == "<0f3a-9@shop.example>"
    made = {message_id(None, "shop.example") for _ in range(2)}
    assert len(made) == 2


@pytest.mark.parametrize("effect_id", ["", "a b", "a@b", "a>", "a\r\n", "ä", ".a", "a..b"])
def test_an_effect_id_that_breaks_the_message_id_is_refused(effect_id: str) -> None:
    with pytest.raises(ValueError, match="effect id"):
        message_id(effect_id, "shop.example")
