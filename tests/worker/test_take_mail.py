"""The worker takes mail in: at once where it is told, else by looking, and patiently while a mailbox is down."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any

import pytest

from orchestrator.bootstrap import Application
from orchestrator.errors import ConnectorError, RateLimited, Unavailable
from orchestrator.testing.mail import FakeMailbox, FakeMailWatch
from orchestrator.worker.mail import is_worth_a_line, rest_after, take_mail
from tests.support.app_with_fakes import CONFIG, Office

LONG = 30.0
HOUR = 3600.0
MAIL = b"From: ann@example.com\r\nSubject: hello\r\n\r\nhello\r\n"


class Watched(FakeMailbox):
    """A mailbox whose watches are known."""

    def __init__(self) -> None:
        super().__init__()
        self.watches: list[FakeMailWatch] = []

    def watch(self) -> FakeMailWatch:
        self.watches.append(super().watch())
        return self.watches[-1]


class Silent(FakeMailbox):
    """A mailbox that cannot be watched."""

    watch: Any = property()

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.looked = Event()

    def new_mail(self, cursor: str | None, *, limit: int) -> Any:
        self.looks += 1
        if self.looks == 3:
            self.looked.set()
        return super().new_mail(cursor, limit=limit)


class Worker:
    """Takes mail in from a mailbox, in a thread of its own."""

    def __init__(self, folder: Path, mailbox: FakeMailbox) -> None:
        self.office = Office(folder, CONFIG, mailbox=mailbox)
        self.stop = Event()

    @contextmanager
    def taking_mail(self, poll_seconds: float) -> Iterator[Thread]:
        app = self.office.app
        thread = Thread(target=take_mail, args=(app, app.sources()[0], poll_seconds, self.stop))
        thread.start()
        try:
            yield thread
        finally:
            self.stop.set()
            thread.join(LONG)
            assert not thread.is_alive()

    def takes(self, number: int) -> None:
        """Let a mail come, and wait until it is taken in."""
        app, until = self.office.app, monotonic() + LONG
        self.office.mailbox.deliver(MAIL + b"%d\r\n" % number)
        while len(app.inbox.listed(limit=10)) < number:
            assert monotonic() < until
            app.work_waits.wait(1)


def test_mail_is_taken_in_when_the_mailbox_tells_of_it(tmp_path: Path) -> None:
    worker = Worker(tmp_path, Watched())
    with worker.taking_mail(HOUR):
        for number in (1, 2, 3):
            worker.takes(number)


def test_a_stop_ends_the_watch_at_once(tmp_path: Path) -> None:
    mailbox = Watched()
    worker = Worker(tmp_path, mailbox)
    with worker.taking_mail(HOUR) as thread:
        worker.takes(1)
        worker.stop.set()
        thread.join(LONG)
        assert not thread.is_alive()
    assert [watch.closed for watch in mailbox.watches] == [True]


def test_a_mailbox_that_cannot_be_watched_is_looked_into(tmp_path: Path) -> None:
    mailbox = Silent()
    worker = Worker(tmp_path, mailbox)
    with worker.taking_mail(0.001):
        assert mailbox.looked.wait(LONG)


def test_a_mailbox_that_is_down_is_tried_again_without_a_flood_of_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mailbox = Watched()
    for _ in range(4):
        mailbox.fail_next(Unavailable("IMAP server imap.shop.example:993 is down"))
    worker = Worker(tmp_path, mailbox)
    with caplog.at_level(logging.INFO, "orchestrator.worker.mail"), worker.taking_mail(0.001):
        worker.takes(1)
    assert [record.getMessage() for record in caplog.records] == [
        f"Mailbox support: IMAP server imap.shop.example:993 is down; failure {count}, tried again in 0 s"
        for count in (1, 2, 4)
    ] + ["Mailbox support: 1 new", "Mailbox support can be read again, after 4 failures"]


def test_a_defect_is_named_and_its_words_are_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Watched):
        def new_mail(self, cursor: str | None, *, limit: int) -> Any:
            if not self.calls:
                self.calls.append(None)
                raise RuntimeError("mary@example.com")
            return super().new_mail(cursor, limit=limit)

    worker = Worker(tmp_path, Broken())
    with worker.taking_mail(0.001):
        worker.takes(1)
    assert "Mailbox support: RuntimeError" in caplog.text
    assert "mary" not in caplog.text


@pytest.mark.parametrize(
    ("failures", "poll_seconds", "expected"),
    [
        (1, 0.5, 0.5), (2, 0.5, 1), (3, 0.5, 2), (8, 0.5, 60), (10**6, 0.5, 60),
        (1, 30, 5), (2, 30, 10), (3, 30, 20), (5, 30, 60), (10**6, 30, 60),
        (1, 300, 5), (7, 300, 300), (8, 300, 300),
    ],
)  # fmt: skip
def test_rests_begin_short_and_grow_within_reason(failures: int, poll_seconds: float, expected: float) -> None:
    assert rest_after(Unavailable("down"), failures, poll_seconds) == expected


@pytest.mark.parametrize(
    ("asked", "failures", "expected"),
    [(90, 1, 90), (3, 1, 5), (3, 5, 60), (10**7, 1, 86400), (None, 1, 5)],
)
def test_a_mailbox_that_asks_for_a_rest_gets_it(asked: float | None, failures: int, expected: float) -> None:
    error = RateLimited("slow down", retry_after=None if asked is None else timedelta(seconds=asked))
    assert rest_after(error, failures, 30) == expected


def test_a_rest_that_the_guard_has_to_keep_is_kept_by_the_mailbox(tmp_path: Path) -> None:
    worker = Worker(tmp_path, Watched())
    worker.office.mailbox.fail_next(RateLimited("slow down", retry_after=timedelta(seconds=90)))
    app = worker.office.app
    asked = [_refusal(app) for _ in range(2)]
    assert [rest_after(error, 1, 30) > 80 for error in asked] == [True, True]
    assert len(worker.office.mailbox.calls) == 1, "the guard lets nothing through"


def _refusal(app: Application) -> ConnectorError:
    with pytest.raises(RateLimited) as refused:
        app.intake.take_in(app.sources()[0])
    return refused.value


def test_of_a_thousand_failures_in_a_row_the_log_shows_ten() -> None:
    assert sum(is_worth_a_line(failures) for failures in range(1, 1001)) == 10
