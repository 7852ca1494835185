"""How new mail is found in Gmail's history of changes, and what happens when Gmail has forgotten it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.capabilities import MailPage, OutgoingMail
from orchestrator.errors import Rejected, Unavailable
from orchestrator.sandbox.gmail import GmailBox, GmailServer, refusal
from orchestrator.testing.contracts.mailbox import letter
from orchestrator.testing.http_server import Fault
from orchestrator_connectors.gmail import GmailAccount
from orchestrator_connectors.gmail.mailbox import Cursor
from tests.support.gmail_account import ANN, SHOP, account

DAY = 24 * 60 * 60


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[GmailServer]:
    with GmailServer(GmailBox(SHOP, clock=clock)) as running:
        yield running


@pytest.fixture
def gmail(server: GmailServer, tmp_path: Path) -> GmailAccount:
    return account(server, tmp_path / "token")


def numbers(page: MailPage) -> list[bytes]:
    return [mail.raw.partition(b"Subject: mail ")[2].partition(b"\r\n")[0] for mail in page.mails]


def test_a_mail_is_named_by_its_message_id_of_gmail(server: GmailServer, gmail: GmailAccount, clock: Clock) -> None:
    position = gmail.position()
    mail = server.box.deliver(letter(1))
    (read,) = gmail.new_mail(position, limit=10).mails
    assert (read.key, read.received_at.timestamp()) == (mail.id, clock.now)


def test_a_long_history_is_read_to_its_end(server: GmailServer, gmail: GmailAccount) -> None:
    position = gmail.position()
    for _ in range(1100):  # three pages of changes that bring no mail
        server.box.deliver(letter(0), labels=("DRAFT",))
    server.box.deliver(letter(1))
    page = gmail.new_mail(position, limit=10)
    assert numbers(page) == [b"1"]
    assert server.calls.count("history.list") == 3
    assert Cursor.read(page.cursor) is not None
    assert page.cursor.startswith(f"{server.box.history_id}:")


def test_a_cursor_moves_on_without_mail_so_that_it_is_not_forgotten(server: GmailServer, gmail: GmailAccount) -> None:
    position = gmail.position()
    server.box.deliver(letter(0), labels=("DRAFT",))
    moved = gmail.new_mail(position, limit=10)
    assert (moved.mails, moved.cursor == position) == ((), False)
    server.box.forget_history()
    server.calls.clear()
    assert gmail.new_mail(gmail.new_mail(moved.cursor, limit=10).cursor, limit=10).mails == ()


def test_several_messages_of_one_change_are_read_page_by_page(server: GmailServer, gmail: GmailAccount) -> None:
    position = gmail.position()
    ids = [server.box.deliver(letter(number)).id for number in range(5)]
    server.box.note_together(*ids)
    pages = [gmail.new_mail(position, limit=2)]
    while pages[-1].mails:
        pages.append(gmail.new_mail(pages[-1].cursor, limit=2))
    assert [numbers(page) for page in pages] == [[b"0", b"1"], [b"2", b"3"], [b"4"], []]


@pytest.mark.parametrize(
    ("labels", "taken"),
    [
        (("INBOX", "UNREAD"), True),
        (("INBOX",), True),
        (("INBOX", "SENT"), True),
        (("Label_7",), True),
        (("SENT",), False),
        (("DRAFT",), False),
        (("SPAM",), False),
        (("TRASH",), False),
        (("CHAT",), False),
    ],
)
def test_what_came_in_is_taken_whatever_became_of_it(
    server: GmailServer, gmail: GmailAccount, labels: tuple[str, ...], taken: bool
) -> None:
    position = gmail.position()
    server.box.deliver(letter(1), labels=labels)
    assert len(gmail.new_mail(position, limit=10).mails) == taken
    assert len(gmail.new_mail(None, limit=10).mails) == taken


def test_a_mail_that_somebody_archived_or_read_at_once_is_not_lost(server: GmailServer, gmail: GmailAccount) -> None:
    position = gmail.position()
    mail = server.box.deliver(letter(1))
    server.box.relabel(mail.id, remove=("INBOX", "UNREAD"))
    assert numbers(gmail.new_mail(position, limit=10)) == [b"1"]


def test_a_mail_that_somebody_takes_out_of_spam_is_taken_in_then(server: GmailServer, gmail: GmailAccount) -> None:
    spam = server.box.deliver(letter(1), labels=("SPAM",))
    page = gmail.new_mail(gmail.position(), limit=10)
    assert page.mails == ()
    server.box.relabel(spam.id, add=("INBOX",), remove=("SPAM",))
    assert numbers(gmail.new_mail(page.cursor, limit=10)) == [b"1"]


def test_a_mail_that_was_moved_to_and_fro_comes_once_a_page(server: GmailServer, gmail: GmailAccount) -> None:
    position = gmail.position()
    mail = server.box.deliver(letter(1))
    for _ in range(3):
        server.box.relabel(mail.id, remove=("INBOX",))
        server.box.relabel(mail.id, add=("INBOX",))
    assert numbers(gmail.new_mail(position, limit=10)) == [b"1"]


def test_a_mail_deleted_before_it_was_read_is_passed_over(server: GmailServer, gmail: GmailAccount) -> None:
    position = gmail.position()
    mails = [server.box.deliver(letter(number)) for number in range(3)]
    server.box.delete(mails[1].id)
    assert numbers(gmail.new_mail(position, limit=10)) == [b"0", b"2"]


def test_after_a_forgotten_history_the_last_day_and_what_followed_is_read_again(
    server: GmailServer, gmail: GmailAccount, clock: Clock
) -> None:
    for number in range(3):
        server.box.deliver(letter(number))
        clock.now += 5 * DAY
    page = gmail.new_mail(None, limit=10)
    clock.now += 30 * DAY
    server.box.deliver(letter(3))
    server.box.forget_history()
    again = gmail.new_mail(page.cursor, limit=10)
    assert numbers(again) == [b"2", b"3"], "two weeks of mail that was read long ago are left alone"
    assert again.mails[0].key == page.mails[-1].key, "its key tells the intake that it is known"
    assert gmail.new_mail(again.cursor, limit=10) == MailPage(mails=(), cursor=again.cursor)


def test_a_full_sync_is_read_page_by_page_while_mail_arrives_and_goes(server: GmailServer, gmail: GmailAccount) -> None:
    mails = [server.box.deliver(letter(number)) for number in range(4)]
    first = gmail.new_mail(None, limit=2)
    server.box.deliver(letter(4))
    server.box.delete(mails[1].id)
    server.box.delete(mails[2].id)
    second = gmail.new_mail(first.cursor, limit=2)
    third = gmail.new_mail(second.cursor, limit=2)
    assert [numbers(page) for page in (first, second, third)] == [[b"0", b"1"], [b"3"], [b"4"]]


def test_a_full_sync_lists_the_messages_once_and_another_process_can_go_on(
    server: GmailServer, gmail: GmailAccount, tmp_path: Path
) -> None:
    for number in range(6):
        server.box.deliver(letter(number))
    cursor, read = gmail.new_mail(None, limit=2).cursor, []
    page = gmail.new_mail(cursor, limit=2)
    assert server.calls.count("messages.list") == 1
    for _ in range(2):
        page = account(server, tmp_path / "token").new_mail(cursor, limit=2)
        read += numbers(page)
        cursor = page.cursor
    assert read == [b"2", b"3", b"4", b"5"]


def test_a_page_ends_where_its_bytes_do_but_always_holds_a_mail(server: GmailServer, tmp_path: Path) -> None:
    gmail = account(server, tmp_path / "token", max_size_bytes=4096)
    position = gmail.position()
    for number in range(3):
        server.box.deliver(letter(number, body=b"x" * 3000))
    pages = [gmail.new_mail(position, limit=10)]
    while pages[-1].mails:
        pages.append(gmail.new_mail(pages[-1].cursor, limit=10))
    assert [numbers(page) for page in pages] == [[b"0"], [b"1"], [b"2"], []]


def test_a_failure_in_the_middle_moves_nothing(server: GmailServer, gmail: GmailAccount) -> None:
    position = gmail.position()
    for number in range(501):
        server.box.deliver(letter(number), labels=("INBOX",) if number == 500 else ("DRAFT",))
    for operation in ("history.list", "messages.get"):
        server.fail_next(Fault(answer=refusal(500, "backendError")), on=operation)
        with pytest.raises(Unavailable):
            gmail.new_mail(position, limit=10)
    assert numbers(gmail.new_mail(position, limit=10)) == [b"500"]


def test_what_we_send_does_not_come_in(server: GmailServer, gmail: GmailAccount) -> None:
    position = gmail.position()
    gmail.send(OutgoingMail(to=ANN, subject="s", text="t"))
    assert gmail.new_mail(position, limit=10).mails == ()


def test_a_page_of_nothing_cannot_be_asked_for(gmail: GmailAccount) -> None:
    with pytest.raises(Rejected):
        gmail.new_mail(None, limit=0)


QUESTION = (
    b"From: ann@example.com\r\nTo: support@shop.example\r\nMessage-ID: <question@mail.example.com>\r\n"
    b"Subject: I lost my download\r\n\r\nhello\r\n"
)


def test_an_answer_lies_in_the_thread_of_its_question(server: GmailServer, gmail: GmailAccount) -> None:
    question = server.box.deliver(QUESTION)
    server.box.deliver(letter(1))
    reply = OutgoingMail(to=ANN, subject="Re: I lost my download", text="t", in_reply_to="<question@mail.example.com>")
    gmail.send(reply, effect_id="effect-1")
    (sent,) = [mail for mail in server.box.mails.values() if "SENT" in mail.labels]
    assert sent.thread_id == question.thread_id
    assert (sent.header("In-Reply-To"), sent.header("References")) == (reply.in_reply_to, reply.in_reply_to)
    assert sent.header("Message-ID") == "<effect-1@shop.example>"


def test_an_answer_whose_thread_is_deleted_in_this_moment_is_sent_all_the_same(
    server: GmailServer, gmail: GmailAccount
) -> None:
    server.box.deliver(QUESTION)
    server.fail_next(Fault(answer=refusal(404, "notFound")), on="messages.send")
    gmail.send(OutgoingMail(to=ANN, subject="s", text="t", in_reply_to="<question@mail.example.com>"))
    assert len([mail for mail in server.box.mails.values() if "SENT" in mail.labels]) == 1


def test_an_answer_whose_question_is_not_here_is_a_thread_of_its_own(server: GmailServer, gmail: GmailAccount) -> None:
    gmail.send(OutgoingMail(to=ANN, subject="s", text="t", in_reply_to="<elsewhere@mail.example.com>"))
    (sent,) = server.box.mails.values()
    assert (sent.thread_id, sent.header("In-Reply-To")) == (sent.id, "<elsewhere@mail.example.com>")


@pytest.mark.parametrize("chosen", ["<x)OR(in:inbox@a>", "<{in:inbox@a}>", '<"in:inbox"@a>'])
def test_a_message_id_that_could_mean_more_is_not_searched_for(
    server: GmailServer, gmail: GmailAccount, chosen: str
) -> None:
    gmail.send(OutgoingMail(to=ANN, subject="s", text="t", in_reply_to=chosen))
    assert server.calls == ["token", "messages.send"]


def test_a_sent_mail_is_found_wherever_somebody_moved_it(server: GmailServer, gmail: GmailAccount) -> None:
    mail = OutgoingMail(to=ANN, subject="s", text="t")
    sent = gmail.send(mail, effect_id="effect-1")
    (stored,) = server.box.mails.values()
    server.box.relabel(stored.id, add=("TRASH",))
    assert gmail.find_sent("effect-1") == sent
