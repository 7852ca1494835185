"""What every connector that sends mail must do; what one that takes it in must do stands in ``mailbox``."""

from __future__ import annotations

import email
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from email.message import EmailMessage
from email.policy import SMTP
from typing import NamedTuple, Protocol

import pytest

from orchestrator.capabilities import Mailer, OutgoingMail, Receipt
from orchestrator.errors import Rejected, Unavailable
from orchestrator.plugins import Connection, DoubtClass, Settlement, with_effect_id
from orchestrator.testing.contracts.doubts import settle
from orchestrator.testing.contracts.mailbox import MailboxContract

__all__ = ["ArrivedMail", "MailboxContract", "MailerConnection", "MailerContract", "Post", "read_mail"]

TEXTS = {
    "plain": "Here is your link.",
    "unicode": "Grüße, 日本語, \U0001f4e6 and e\u0301",
    "one long line": "https://files.example/" + "x" * 5000,
    "lines that a protocol could take for its own": ".\n..\nFrom here\nQUIT\n--\nSubject: no header",
    "blanks": "two  blanks, a trailing one \n\n\nand a\ttab",
}
NO_RECIPIENTS = (
    "",
    "nobody",
    "{known}, {known}",
    "{known}\r\nBcc: {known}",
    "{known}\nBcc: {known}",
    "{known}> RCPT TO:<{known}",
    "Ann <{known}>\u2028",
)
MESSAGE_IDS = (
    f"<{'A' * 60}@{'b' * 40}.mail.example.com>",
    "<1700000000.12(a)x:5,6;7@[192.0.2.1]:25>",
    '<"quoted"\\.part@example.com>',
)
"""Long ones, and such as no standard allows (RFC 5322 3.6.4) and mail programs write all the same."""
NO_MESSAGE_IDS = ("", "abc@example.com", "<abc>", "<a@b>\r\nBcc: {known}", "<a@b> <c@d>", "<ä@example.com>")


class MailerConnection(Mailer, Connection, Protocol):
    """The connection under test."""

    @property
    def settlements(self) -> Mapping[str, Settlement]:
        """How doubts are settled."""
        ...


class ArrivedMail(NamedTuple):
    """A mail as its recipient sees it; lines end with a line feed, and none is empty at the end."""

    to: str
    subject: str
    text: str
    html: str = ""
    message_id: str = ""
    in_reply_to: str = ""
    automatic: bool = True
    """Whether it says that a machine wrote it (RFC 3834)."""


class Post(Protocol):
    """What the tests see of the provider behind the connection."""

    @property
    def known(self) -> str:
        """An address that takes mail."""

    @property
    def unknown(self) -> str:
        """An address that the provider refuses."""

    def arrived(self) -> Sequence[ArrivedMail]:
        """See all mail that has arrived, whoever got it."""

    def lose_next_answer(self) -> None:
        """Let the next mail arrive, and lose the provider's answer to it."""

    def lose_next_request(self) -> None:
        """Lose the next mail on its way, so late that the connection cannot tell."""

    def set_clock_off(self, by: timedelta) -> None:
        """Let the provider's clock be so far ahead of ours from now on, or behind it; a fake may have none."""


def read_mail(raw: bytes) -> ArrivedMail:
    """Read a mail that came byte for byte."""
    message = email.message_from_bytes(raw, policy=SMTP)
    assert isinstance(message, EmailMessage)
    assert message["Cc"] is None
    assert message["Bcc"] is None
    return ArrivedMail(
        to=str(message["To"]),
        subject=str(message["Subject"]),
        text=_body(message, "plain"),
        html=_body(message, "html"),
        message_id=str(message["Message-ID"]),
        in_reply_to=str(message["In-Reply-To"] or ""),
        automatic=str(message["Auto-Submitted"] or "no") != "no",
    )


def _body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    return "" if part is None else str(part.get_content()).replace("\r\n", "\n").rstrip("\n")


class MailerContract:
    """Give the fixtures ``mailer`` and ``post``."""

    @pytest.fixture
    def mailer(self) -> MailerConnection:
        """The connection under test."""
        raise NotImplementedError("give the fixture mailer: the connection under test")

    @pytest.fixture
    def post(self) -> Post:
        """The provider behind it."""
        raise NotImplementedError("give the fixture post: what is seen of the provider behind the connection")

    @pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
    def test_a_text_arrives_as_it_was_written(self, mailer: MailerConnection, post: Post, text: str) -> None:
        sent = with_effect_id(mailer.send, "effect-1")(OutgoingMail(to=post.known, subject="Your download", text=text))
        expected = ArrivedMail(to=post.known, subject="Your download", text=text, message_id=sent.reference)
        assert list(post.arrived()) == [expected]

    @pytest.mark.parametrize("subject", ["", "Grüße 日本語 \U0001f4e6", "many words " * 60, "x" * 500, "ä" * 500])
    def test_a_subject_arrives_as_it_was_written(self, mailer: MailerConnection, post: Post, subject: str) -> None:
        with_effect_id(mailer.send, "effect-1")(OutgoingMail(to=post.known, subject=subject.strip(), text="hello"))
        assert [mail.subject for mail in post.arrived()] == [subject.strip()]

    def test_html_arrives_beside_the_text(self, mailer: MailerConnection, post: Post) -> None:
        html = '<p>Grüße: <a href="https://files.example/?a=1&amp;b=2">link</a></p>' + "<br>" * 500
        with_effect_id(mailer.send, "effect-1")(OutgoingMail(to=post.known, subject="s", text="hello", html=html))
        assert [(mail.text, mail.html) for mail in post.arrived()] == [("hello", html)]

    @pytest.mark.parametrize("question", MESSAGE_IDS)
    def test_an_answer_names_what_it_answers(self, mailer: MailerConnection, post: Post, question: str) -> None:
        mail = OutgoingMail(to=post.known, subject="s", text="t", in_reply_to=question)
        with_effect_id(mailer.send, "effect-1")(mail)
        assert [mail.in_reply_to for mail in post.arrived()] == [question]

    @pytest.mark.parametrize("malformed", NO_MESSAGE_IDS)
    def test_a_malformed_message_id_is_left_out(self, mailer: MailerConnection, post: Post, malformed: str) -> None:
        mail = OutgoingMail(to=post.known, subject="s", text="t", in_reply_to=malformed.format(known=post.known))
        sent = with_effect_id(mailer.send, "effect-1")(mail)
        assert list(post.arrived()) == [ArrivedMail(post.known, "s", "t", message_id=sent.reference)]

    def test_each_effect_has_a_message_id_of_its_own(self, mailer: MailerConnection, post: Post) -> None:
        mail = OutgoingMail(to=post.known, subject="s", text="t")
        sent = [
            with_effect_id(mailer.send, effect_id)(mail).reference for effect_id in ("effect-1", "effect-2", None, None)
        ]
        assert [mail.message_id for mail in post.arrived()] == sent
        assert len(set(sent)) == 4
        assert all(reference.startswith("<") and reference.endswith(">") for reference in sent)

    @pytest.mark.parametrize("recipient", NO_RECIPIENTS)
    def test_what_is_not_one_address_is_rejected(self, mailer: MailerConnection, post: Post, recipient: str) -> None:
        mail = OutgoingMail(to=recipient.format(known=post.known), subject="s", text="t")
        with pytest.raises(Rejected) as caught:
            with_effect_id(mailer.send, "effect-1")(mail)
        assert caught.value.no_effect is True
        assert not post.arrived()

    @pytest.mark.parametrize("control", ["\r\n", "\n", "\r", "\x0b", "\x0c", "\x00", "\x85", "\u2028"])
    def test_a_line_break_in_the_subject_adds_no_header(
        self, mailer: MailerConnection, post: Post, control: str
    ) -> None:
        mail = OutgoingMail(to=post.known, subject=f"hello{control}Bcc: {post.known}", text="t")
        sent = with_effect_id(mailer.send, "effect-1")(mail)
        subject = f"hello Bcc: {post.known}"
        assert list(post.arrived()) == [ArrivedMail(post.known, subject, "t", message_id=sent.reference)]

    def test_a_recipient_whom_the_provider_refuses_is_rejected(self, mailer: MailerConnection, post: Post) -> None:
        with pytest.raises(Rejected) as caught:
            with_effect_id(mailer.send, "effect-1")(OutgoingMail(to=post.unknown, subject="s", text="t"))
        assert caught.value.no_effect is True
        assert post.unknown not in str(caught.value)
        assert not post.arrived()

    def test_a_refused_mail_does_not_spoil_the_next_one(self, mailer: MailerConnection, post: Post) -> None:
        with pytest.raises(Rejected):
            with_effect_id(mailer.send, "effect-1")(OutgoingMail(to=post.unknown, subject="1", text="t"))
        with_effect_id(mailer.send, "effect-2")(OutgoingMail(to=post.known, subject="2", text="t"))
        assert [mail.subject for mail in post.arrived()] == ["2"]

    def test_a_mail_whose_answer_was_lost_is_in_doubt_and_found(self, mailer: MailerConnection, post: Post) -> None:
        mail = OutgoingMail(to=post.known, subject="s", text="t")
        post.lose_next_answer()
        with pytest.raises(Unavailable) as caught:
            with_effect_id(mailer.send, "effect-1")(mail)
        assert caught.value.no_effect is False, "it had acted: the failure must not claim that it has not"
        assert len(post.arrived()) == 1
        if probe := _probe(mailer):
            found = probe("effect-1", mail=mail)
            assert found is not None
            assert found.reference == post.arrived()[0].message_id

    def test_a_mail_that_was_lost_late_is_in_doubt_and_not_found(self, mailer: MailerConnection, post: Post) -> None:
        mail = OutgoingMail(to=post.known, subject="s", text="t")
        post.lose_next_request()
        with pytest.raises(Unavailable) as caught:
            with_effect_id(mailer.send, "effect-1")(mail)
        assert caught.value.no_effect is False, "nobody can know: the failure must not claim that it has not acted"
        assert not post.arrived()
        if probe := _probe(mailer):
            assert probe("effect-1", mail=mail) is None

    @pytest.mark.parametrize("lost", ["answer", "request"])
    @pytest.mark.parametrize("hours", [-1, 0, 1])
    def test_a_mail_in_doubt_arrives_once_whatever_the_providers_clock_says(
        self, mailer: MailerConnection, post: Post, lost: str, hours: int
    ) -> None:
        mail, settlement = OutgoingMail(to=post.known, subject="s", text="t"), mailer.settlements["send"]
        post.set_clock_off(timedelta(hours=hours))
        post.lose_next_answer() if lost == "answer" else post.lose_next_request()
        with pytest.raises(Unavailable):
            with_effect_id(mailer.send, "effect-1")(mail)
        settle(settlement, "effect-1", lambda: with_effect_id(mailer.send, "effect-1")(mail), mail=mail)
        if settlement.doubt is not DoubtClass.NONE:
            assert [arrived.subject for arrived in post.arrived()] == ["s"]

    def test_a_probe_finds_its_own_mail_alone(self, mailer: MailerConnection, post: Post) -> None:
        mail = OutgoingMail(to=post.known, subject="s", text="t")
        sent = with_effect_id(mailer.send, "effect-1")(mail)
        if probe := _probe(mailer):
            assert probe("effect-1", mail=mail) == sent
            assert probe("effect-2", mail=mail) is None
            assert probe("effect", mail=mail) is None

    def test_a_check_says_in_one_line_what_it_saw(self, mailer: MailerConnection, post: Post) -> None:
        seen = mailer.check()
        assert len(seen.splitlines()) == 1
        assert "@" not in seen
        assert not post.arrived()


def _probe(mailer: MailerConnection) -> Callable[..., Receipt | None] | None:
    settlement = mailer.settlements["send"]
    return settlement.probe if settlement.doubt is DoubtClass.PROBE else None
