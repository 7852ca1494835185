from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any, cast

import pytest
from sqlalchemy import select

from orchestrator.builtin.inbox import DeliveryState, HostInbox
from orchestrator.capabilities import Inbox, MailPage, RawMail, Value
from orchestrator.errors import Unavailable
from orchestrator.intake.mailboxes import PAGE, MailIntake, Source
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.runs import Runs, RunState
from orchestrator.record.record import Record
from orchestrator.record.store import Store
from orchestrator.record.tables import intake_cursor, metadata
from orchestrator.record.trail import Actor
from orchestrator.record.verify import verify
from orchestrator.testing.mail import FakeMailbox
from tests.support.clock import HandClock
from tests.support.crashing_store import Crash, CrashingStore
from tests.support.paths import MAILS

CORPUS = sorted(MAILS.glob("*.eml"))


class Incoming(Value):
    delivery: str


def triage(request: Incoming, *, inbox: Inbox) -> None:
    """Do nothing."""


TRIAGE = ProcessDefinition("triage", triage)


def letter(number: int, sender: str = "ann@example.com") -> bytes:
    head = f"From: {sender}\r\nMessage-ID: <{number}@example.com>\r\nSubject: mail {number}\r\n\r\n"
    return f"{head}canary-{number}\r\n".encode()


class DatedMailbox(FakeMailbox):
    """Mails that arrived when the test says so."""

    def __init__(self, clock: HandClock) -> None:
        super().__init__()
        self._dates: dict[bytes, datetime] = {}
        self._clock = clock

    def deliver(self, raw: bytes, at: datetime | None = None) -> str:
        self._dates.setdefault(raw, at or self._clock())
        return super().deliver(raw)

    def _mail(self, number: int) -> RawMail:
        mail = super()._mail(number)
        return mail.model_copy(update={"received_at": self._dates[self.mails[number]]})


class Post:
    """A mailbox, and the intake that takes mail from it."""

    def __init__(self, record: Record, mailbox: FakeMailbox, *, from_beginning: bool = True) -> None:
        self.record = record
        self.mailbox = mailbox
        self.source = Source(name="support", mailbox=mailbox, process=TRIAGE, from_beginning=from_beginning)

    def take_in(self, record: Record | None = None) -> int:
        written = record or self.record
        return MailIntake(written, Runs(written)).take_in(self.source)

    def stored(self) -> list[bytes]:
        """Return what lies in the inbox, byte for byte, in the order of arrival."""
        inbox = HostInbox(self.record)
        rows = [inbox.raw(found.delivery) for found in inbox.listed(limit=1000)]
        return [raw for raw, row in sorted(rows, key=lambda found: (found[1].received_at, found[1].source_key))]

    def cursor(self) -> Any:
        with self.record.store.read() as tx:
            return tx.execute(select(intake_cursor)).one_or_none()


@pytest.fixture
def mailbox(clock: HandClock) -> DatedMailbox:
    return DatedMailbox(clock)


@pytest.fixture
def post(record: Record, mailbox: DatedMailbox) -> Post:
    return Post(record, mailbox)


def test_a_new_mail_is_stored_with_its_run_and_its_event(post: Post, record: Record, clock: HandClock) -> None:
    key = post.mailbox.deliver(letter(1))
    assert post.take_in() == 1
    (found,) = HostInbox(record).listed(limit=10)
    assert (found.source, found.state, found.note) == ("support", DeliveryState.NEW, "")
    (run,) = Runs(record).listed(limit=10)
    assert (run.run_id, run.process, run.state, run.case_id) == (found.run_id, "triage", RunState.READY, None)
    with record.store.read() as tx:
        accepted, opened = record.trail.chain(tx, run.run_id)
        assert verify(tx).breaches == ()
    assert accepted.kind == "delivery.accepted"
    assert accepted.actor == Actor(name="mail:support", auth="unproven")
    data = {"delivery": found.delivery, "source_key": key, "size": len(letter(1)), "authentication": {}}
    assert accepted.data == data
    assert (opened.kind, opened.data["request"]) == ("run.opened", {"delivery": found.delivery})


def test_how_the_sender_was_proven_is_on_the_record(post: Post, record: Record) -> None:
    said = (
        b"Authentication-Results: mx.shop.example; spf=softfail smtp.mailfrom=a@b.example; dmarc=%s header.from=%s\r\n"
    )
    for result in (b"pass", b"fail"):
        post.mailbox.deliver(said % (result, b"example.com") + letter(1))
    MailIntake(record, Runs(record)).take_in(replace(post.source, authserv_id="mx.shop.example"))
    found = {each.proof: each for each in HostInbox(record).listed(limit=10)}
    with record.store.read() as tx:
        accepted = {proof: record.trail.chain(tx, str(each.run_id)) for proof, each in found.items()}
    assert {proof: [event.actor.auth for event in events] for proof, events in accepted.items()} == {
        "dmarc=pass": ["mail (dmarc=pass)"] * 2,
        "": ["unproven"] * 2,
    }
    assert accepted[""][0].data["authentication"] == {"dmarc": "fail", "spf": "softfail"}


def test_nothing_is_taken_in_twice(post: Post) -> None:
    for number in range(3):
        post.mailbox.deliver(letter(number))
    assert [post.take_in(), post.take_in()] == [3, 0]
    post.mailbox.deliver(letter(3))
    assert [post.take_in(), post.take_in()] == [1, 0]
    assert post.stored() == [letter(number) for number in range(4)]


@pytest.mark.parametrize("count", [PAGE - 1, PAGE, PAGE + 1, 2 * PAGE + 5])
def test_mail_beyond_one_page_is_taken_in_at_once(post: Post, clock: HandClock, count: int) -> None:
    for number in range(count):
        clock.advance(seconds=1)
        post.mailbox.deliver(letter(number))
    assert post.take_in() == count
    assert post.stored() == [letter(number) for number in range(count)]


def test_a_page_that_is_short_because_its_mails_are_large_is_not_the_last(record: Record, clock: HandClock) -> None:
    class Stingy(DatedMailbox):
        def new_mail(self, cursor: str | None, *, limit: int) -> MailPage:
            return super().new_mail(cursor, limit=min(limit, 2))

    post = Post(record, Stingy(clock))
    for number in range(5):
        post.mailbox.deliver(letter(number))
    assert post.take_in() == 5


def test_looking_into_an_unchanged_mailbox_writes_nothing(post: Post, clock: HandClock) -> None:
    post.mailbox.deliver(letter(1))
    post.take_in()
    before = post.cursor()
    clock.advance(minutes=5)
    assert post.take_in() == 0
    assert post.cursor() == before


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_crash_at_any_commit_loses_nothing_and_doubles_nothing(
    post: Post, record: Record, clock: HandClock, at: int, committed: bool
) -> None:
    letters = [letter(number) for number in range(2 * PAGE + 5)]
    for raw in letters:
        clock.advance(seconds=1)
        post.mailbox.deliver(raw)
    dying = replace(record, store=cast("Store", CrashingStore(record.store, at=at, committed=committed)))
    with pytest.raises(Crash):
        post.take_in(dying)
    after = post.stored()
    assert after == letters[: len(after)]
    assert len(after) == min((at if committed else at - 1) * PAGE, len(letters))
    assert (post.cursor() is None) == (not after)
    assert not after or post.cursor().cursor == f"1:{len(after)}"
    assert post.take_in() == len(letters) - len(after)
    assert post.stored() == letters
    assert len(Runs(record).listed(limit=100)) == len(letters)


def test_a_mailbox_that_fails_between_pages_is_read_on_later(post: Post) -> None:
    for number in range(PAGE + 3):
        post.mailbox.deliver(letter(number))

    class FailsOnce(FakeMailbox):
        def new_mail(self, cursor: str | None, *, limit: int) -> MailPage:
            if cursor is not None:
                raise Unavailable("the server is down")
            return post.mailbox.new_mail(cursor, limit=limit)

    with pytest.raises(Unavailable):
        MailIntake(post.record, Runs(post.record)).take_in(replace(post.source, mailbox=FailsOnce()))
    assert len(post.stored()) == PAGE
    assert post.take_in() == 3


def test_renumbered_mails_are_known_by_their_bytes(post: Post, clock: HandClock) -> None:
    for number in range(PAGE + 3):
        post.mailbox.deliver(letter(number))
    post.take_in()
    post.mailbox.renumber()
    post.mailbox.deliver(letter(99))
    assert [post.take_in(), post.take_in()] == [1, 0]
    assert len(post.stored()) == PAGE + 4
    assert post.cursor().cursor == f"2:{PAGE + 4}"


def test_mail_from_before_the_first_start_is_left_alone(
    record: Record, mailbox: DatedMailbox, clock: HandClock
) -> None:
    post = Post(record, mailbox, from_beginning=False)
    for hours in (300, 3, 2):
        mailbox.deliver(letter(hours), clock() - timedelta(hours=hours))
    assert post.take_in() == 0
    clock.advance(minutes=1)
    mailbox.deliver(letter(1))
    assert post.take_in() == 1
    mailbox.renumber()
    assert post.take_in() == 0
    assert post.stored() == [letter(1)]


@pytest.mark.parametrize("behind", [timedelta(milliseconds=700), timedelta(minutes=30)])
def test_a_mail_server_whose_clock_is_behind_loses_no_mail(
    record: Record, mailbox: DatedMailbox, clock: HandClock, behind: timedelta
) -> None:
    post = Post(record, mailbox, from_beginning=False)
    assert post.take_in() == 0
    mailbox.deliver(letter(1), clock() - behind)
    assert post.take_in() == 1


def test_what_lay_there_before_is_taken_in_if_the_configuration_says_so(
    post: Post, mailbox: DatedMailbox, clock: HandClock
) -> None:
    mailbox.deliver(letter(1), datetime(1999, 1, 1, tzinfo=UTC))
    assert post.take_in() == 1


def test_of_two_workers_that_start_at_once_the_first_position_counts(record: Record, clock: HandClock) -> None:
    class Raced(DatedMailbox):
        rival: Post | None = None

        def position(self) -> str:
            rival, self.rival = self.rival, None
            if rival is not None:
                rival.take_in()
                self.deliver(letter(1))
            return super().position()

    mailbox = Raced(clock)
    mailbox.rival = Post(record, mailbox, from_beginning=False)
    late = Post(record, mailbox, from_beginning=False)
    assert late.take_in() == 1


def test_workers_that_are_told_of_the_same_mail_at_once_store_it_once(record: Record) -> None:
    both_have_read = Barrier(2)

    class Raced(FakeMailbox):
        def new_mail(self, cursor: str | None, *, limit: int) -> MailPage:
            page = super().new_mail(cursor, limit=limit)
            both_have_read.wait(60)
            return page

    mailbox = Raced()
    letters = [letter(number) for number in range(2 * PAGE + 5)]
    for raw in letters:
        mailbox.deliver(raw)
    posts = [Post(record, mailbox), Post(record, mailbox)]
    with ThreadPoolExecutor(2) as workers:
        assert sum(workers.map(Post.take_in, posts)) == len(letters)
    assert posts[0].stored() == letters
    assert posts[0].cursor().cursor == f"1:{len(letters)}"


def test_a_worker_that_lags_behind_does_not_move_the_cursor_back(post: Post) -> None:
    class Lagging(FakeMailbox):
        def new_mail(self, cursor: str | None, *, limit: int) -> MailPage:
            page = post.mailbox.new_mail(cursor, limit=1)
            while post.take_in():
                pass
            return page

    for number in range(3):
        post.mailbox.deliver(letter(number))
    assert MailIntake(post.record, Runs(post.record)).take_in(replace(post.source, mailbox=Lagging())) == 0
    assert (post.cursor().cursor, len(post.stored())) == ("1:3", 3)


def test_the_same_bytes_at_another_time_are_another_mail(record: Record) -> None:
    post = Post(record, FakeMailbox())
    for _ in range(2):
        post.mailbox.deliver(letter(1))
    assert [post.take_in(), post.take_in()] == [2, 0]
    assert post.stored() == [letter(1), letter(1)]


def test_the_same_message_id_with_other_bytes_is_another_mail(post: Post) -> None:
    post.mailbox.deliver(letter(1))
    post.mailbox.deliver(letter(1).replace(b"canary", b"forged"))
    assert post.take_in() == 2


def test_each_mailbox_has_a_place_of_its_own(record: Record, mailbox: DatedMailbox) -> None:
    first = Post(record, mailbox)
    second = Post(record, mailbox)
    second.source = replace(second.source, name="billing")
    mailbox.deliver(letter(1))
    assert [first.take_in(), second.take_in(), first.take_in(), second.take_in()] == [1, 1, 0, 0]


def test_of_a_mail_that_is_too_large_the_header_is_stored_and_a_person_reads_it(record: Record) -> None:
    post = Post(record, FakeMailbox(max_size_bytes=1000))
    post.mailbox.deliver(letter(1) + b"x" * 2000)
    post.mailbox.deliver(letter(2))
    assert post.take_in() == 2
    inbox = HostInbox(record)
    read = {mail.subject: mail for mail in (inbox.read(found.delivery) for found in inbox.listed(limit=10))}
    assert read["mail 1"].unreadable == "larger than the mailbox's limit"
    assert (read["mail 1"].sender, read["mail 1"].text) == ("ann@example.com", "")
    assert (read["mail 2"].unreadable, read["mail 2"].text) == ("", "canary-2")


def test_every_broken_mail_is_stored_byte_for_byte_and_can_be_looked_at(record: Record) -> None:
    post = Post(record, FakeMailbox())
    for path in CORPUS:
        post.mailbox.deliver(path.read_bytes())
    assert len(CORPUS) > 20
    assert post.take_in() == len(CORPUS)
    assert post.stored() == [path.read_bytes() for path in CORPUS]
    inbox = HostInbox(record)
    for found in inbox.listed(limit=100):
        assert inbox.read(found.delivery).delivery == found.delivery


def test_one_sender_is_one_person_to_the_record(post: Post, record: Record) -> None:
    for number, sender in enumerate(("Ann <ann@example.com>", "ANN@example.com", "tom@example.com", "", "")):
        post.mailbox.deliver(letter(number, sender))
    post.take_in()
    people = [run.subject_ref for run in Runs(record).listed(limit=10)]
    assert len(set(people)) == 4


def test_no_word_of_a_mail_lies_open_in_the_database(post: Post, record: Record, tmp_path: Path) -> None:
    for number in range(3):
        post.mailbox.deliver(letter(number))
    post.take_in()
    seen = everything(record) + b"".join(path.read_bytes() for path in tmp_path.glob("record.db*"))
    assert b"delivery.accepted" in seen
    for word in (b"canary-1", b"ann@example.com", b"mail 1", b"1@example.com", letter(1)):
        assert word not in seen


def everything(record: Record) -> bytes:
    """Return all that stands in all tables, as it lies there."""
    with record.store.read() as tx:
        cells = [cell for table in metadata.sorted_tables for row in tx.execute(select(table)) for cell in row]
    return b"\n".join(bytes(cell) if isinstance(cell, bytes | memoryview) else str(cell).encode() for cell in cells)
