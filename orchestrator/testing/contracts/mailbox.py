"""What every connector that takes mail in must do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

import pytest

from orchestrator.capabilities import Mailbox, MailPage, RawMail
from orchestrator.plugins import Connection


class MailboxConnection(Mailbox, Connection, Protocol):
    """The connection under test."""


class Letterbox(Protocol):
    """What the tests do to the mailbox behind the connection."""

    @property
    def max_size_bytes(self) -> int:
        """Of a larger mail only the headers are read."""

    def deliver(self, raw: bytes) -> None:
        """Let a mail arrive."""

    def remove_first(self) -> None:
        """Let a person delete the oldest mail."""

    def renumber(self) -> None:
        """Let all cursors lose their meaning, as after a restore from a backup; the mails stay."""

    def set_clock_off(self, by: timedelta) -> None:
        """Let the clock of the mailbox be so far ahead of ours from now on, or behind it."""


def letter(number: int, *, body: bytes = b"hello\r\n") -> bytes:
    """Write a small mail."""
    return (
        b"From: ann@example.com\r\nMessage-ID: <%d@example.com>\r\nSubject: mail %d\r\n\r\n" % (number, number) + body
    )


HOSTILE = {
    "all scripts": "Subject: Gr\u00fc\u00dfe \u65e5\u672c\u8a9e \U0001f4e6\r\n\r\ne\u0301\r\n".encode(),
    "eight bits": letter(1, body=b"\xff\xfe\x80 caf\xe9\r\n"),
    "broken structure": b'Content-Type: multipart/mixed; boundary="\r\nSubject: =?foo?q?=ZZ?=\r\n\r\n--\r\n',
    "lines like a protocol's": letter(1, body=b')\r\n* 1 FETCH (UID 7 BODY[] "x")\r\nA1 OK done\r\n.\r\n'),
    "a body only": b"\r\nhello\r\n",
    "headers only": b"Subject: hello\r\n\r\n",
    "a header of its own": b'Subject: "UID 7 RFC822.SIZE 1"\r\n\r\n',
}


class MailboxContract:
    """Give the fixtures ``mailbox`` and ``letterbox``, over an empty mailbox."""

    @pytest.fixture
    def mailbox(self) -> MailboxConnection:
        """The connection under test."""
        raise NotImplementedError("give the fixture mailbox: the connection under test")

    @pytest.fixture
    def letterbox(self) -> Letterbox:
        """The mailbox behind it."""
        raise NotImplementedError("give the fixture letterbox: what is done to the mailbox behind the connection")

    def test_an_empty_mailbox_shows_nothing(self, mailbox: MailboxConnection) -> None:
        assert mailbox.new_mail(None, limit=10).mails == ()
        assert mailbox.new_mail(mailbox.position(), limit=10).mails == ()

    def test_only_mail_behind_the_position_is_new(self, mailbox: MailboxConnection, letterbox: Letterbox) -> None:
        letterbox.deliver(letter(1))
        position = mailbox.position()
        assert mailbox.new_mail(position, limit=10) == MailPage(mails=(), cursor=position)
        letterbox.deliver(letter(2))
        page = mailbox.new_mail(position, limit=10)
        assert [mail.raw for mail in page.mails] == [letter(2)]
        assert mailbox.new_mail(page.cursor, limit=10) == MailPage(mails=(), cursor=page.cursor)

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
    def test_pages_hold_each_mail_once_in_order(
        self, mailbox: MailboxConnection, letterbox: Letterbox, limit: int
    ) -> None:
        for number in range(7):
            letterbox.deliver(letter(number))
        pages = [mailbox.new_mail(None, limit=limit)]
        while pages[-1].mails:
            pages.append(mailbox.new_mail(pages[-1].cursor, limit=limit))
        assert max(len(page.mails) for page in pages) <= limit
        assert [mail.raw for page in pages for mail in page.mails] == [letter(number) for number in range(7)]

    def test_the_same_mail_twice_is_two_mails(self, mailbox: MailboxConnection, letterbox: Letterbox) -> None:
        for _ in range(2):
            letterbox.deliver(letter(1))
        mails = mailbox.new_mail(None, limit=10).mails
        assert [mail.raw for mail in mails] == [letter(1), letter(1)]
        assert len({mail.key for mail in mails}) == 2

    def test_reading_changes_nothing(self, mailbox: MailboxConnection, letterbox: Letterbox) -> None:
        letterbox.deliver(letter(1))
        assert mailbox.new_mail(None, limit=10) == mailbox.new_mail(None, limit=10)

    @pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
    def test_every_mail_is_read_byte_for_byte(
        self, mailbox: MailboxConnection, letterbox: Letterbox, raw: bytes
    ) -> None:
        letterbox.deliver(raw)
        letterbox.deliver(letter(2))
        assert [mail.raw for mail in mailbox.new_mail(None, limit=10).mails] == [raw, letter(2)]

    def test_a_mail_carries_the_time_of_its_arrival(self, mailbox: MailboxConnection, letterbox: Letterbox) -> None:
        letterbox.deliver(letter(1))
        (mail,) = mailbox.new_mail(None, limit=1).mails
        assert mail.received_at.utcoffset() == timedelta(0)

    def test_of_a_large_mail_only_the_headers_are_read(self, mailbox: MailboxConnection, letterbox: Letterbox) -> None:
        letterbox.deliver(letter(1, body=b"x" * 70 + b"\r\n" + b"y\r\n" * letterbox.max_size_bytes))
        letterbox.deliver(letter(2))
        mails = _read_all(mailbox)
        assert [(mail.raw, mail.truncated) for mail in mails] == [(letter(1, body=b""), True), (letter(2), False)]

    @pytest.mark.parametrize("cursor", ["", "0:0", "1:x", "another system's cursor", "9999999999:1"])
    def test_a_cursor_that_is_not_honoured_starts_at_the_beginning(
        self, mailbox: MailboxConnection, letterbox: Letterbox, cursor: str
    ) -> None:
        letterbox.deliver(letter(1))
        assert [mail.raw for mail in mailbox.new_mail(cursor, limit=10).mails] == [letter(1)]

    def test_nothing_is_lost_when_the_mails_are_renumbered(
        self, mailbox: MailboxConnection, letterbox: Letterbox
    ) -> None:
        letterbox.deliver(letter(1))
        before = mailbox.new_mail(None, limit=10)
        letterbox.renumber()
        letterbox.deliver(letter(2))
        after = mailbox.new_mail(before.cursor, limit=10)
        assert [mail.raw for mail in after.mails] == [letter(1), letter(2)]
        assert _keys(before.mails).isdisjoint(_keys(after.mails))
        assert mailbox.new_mail(after.cursor, limit=10).mails == ()

    @pytest.mark.parametrize("hours", [-1, 1])
    def test_nothing_is_lost_when_the_mailboxs_clock_is_off(
        self, mailbox: MailboxConnection, letterbox: Letterbox, hours: int
    ) -> None:
        position = mailbox.position()
        letterbox.set_clock_off(timedelta(hours=hours))
        letterbox.deliver(letter(1))
        first = mailbox.new_mail(position, limit=10)
        letterbox.set_clock_off(-timedelta(hours=hours))
        letterbox.deliver(letter(2))
        second = mailbox.new_mail(first.cursor, limit=10)
        assert [[mail.raw for mail in page.mails] for page in (first, second)] == [[letter(1)], [letter(2)]]
        letterbox.renumber()
        assert {mail.raw for mail in mailbox.new_mail(second.cursor, limit=10).mails} == {letter(1), letter(2)}

    def test_a_deleted_mail_does_not_hide_the_next_one(self, mailbox: MailboxConnection, letterbox: Letterbox) -> None:
        for number in (1, 2):
            letterbox.deliver(letter(number))
        first = mailbox.new_mail(None, limit=1)
        letterbox.remove_first()
        assert [mail.raw for mail in mailbox.new_mail(first.cursor, limit=10).mails] == [letter(2)]
        assert [mail.raw for mail in mailbox.new_mail(None, limit=10).mails] == [letter(2)]

    def test_a_printed_mail_does_not_show_its_content(self, mailbox: MailboxConnection, letterbox: Letterbox) -> None:
        letterbox.deliver(letter(1))
        assert "ann@example.com" not in repr(mailbox.new_mail(None, limit=1))

    def test_a_check_says_in_one_line_what_it_saw(self, mailbox: MailboxConnection, letterbox: Letterbox) -> None:
        letterbox.deliver(letter(1))
        seen = mailbox.check()
        assert len(seen.splitlines()) == 1
        assert "@" not in seen


def _read_all(mailbox: MailboxConnection) -> list[RawMail]:
    mails: list[RawMail] = []
    page = mailbox.new_mail(None, limit=10)
    while page.mails:
        mails += page.mails
        page = mailbox.new_mail(page.cursor, limit=10)
    return mails


def _keys(mails: Sequence[RawMail]) -> set[str]:
    return {mail.key for mail in mails}
