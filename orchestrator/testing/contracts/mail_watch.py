"""What every mailbox that can be watched must do; it must also fulfil ``MailboxContract`` while it is watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Thread
from time import monotonic

import pytest

from orchestrator.plugins import MailWatch
from orchestrator.testing.contracts.mailbox import Letterbox, letter

FOREVER = timedelta(seconds=60)
AT_ONCE = timedelta(0)
SOON_SECONDS = 20.0
"""Far less than ``FOREVER``, even on a computer that is busy."""


class MailWatchContract:
    """Give the fixtures ``watch`` and ``letterbox``, over an empty mailbox."""

    @pytest.fixture
    def watch(self) -> MailWatch:
        """The watch under test."""
        raise NotImplementedError("give the fixture watch: the watch under test")

    @pytest.fixture
    def letterbox(self) -> Letterbox:
        """The mailbox behind it."""
        raise NotImplementedError("give the fixture letterbox: what is done to the mailbox behind the watch")

    def test_a_mail_that_comes_ends_the_wait(self, watch: MailWatch, letterbox: Letterbox) -> None:
        cursor = watch.position()
        with soon(), meanwhile(lambda: letterbox.deliver(letter(1))):
            assert watch.wait(FOREVER)
        assert [mail.raw for mail in watch.new_mail(cursor, limit=10).mails] == [letter(1)]

    def test_a_mail_that_came_since_the_last_look_ends_the_wait(self, watch: MailWatch, letterbox: Letterbox) -> None:
        cursor = watch.position()
        for number in range(3):
            letterbox.deliver(letter(number))
            with soon():
                assert watch.wait(FOREVER)
            page = watch.new_mail(cursor, limit=10)
            assert [mail.raw for mail in page.mails] == [letter(number)]
            cursor = page.cursor

    def test_a_mail_that_was_seen_ends_no_wait(self, watch: MailWatch, letterbox: Letterbox) -> None:
        letterbox.deliver(letter(1))
        watch.new_mail(None, limit=10)
        assert not watch.wait(AT_ONCE)
        assert not watch.wait(AT_ONCE)

    def test_a_mail_that_is_deleted_ends_no_wait_and_hides_none(self, watch: MailWatch, letterbox: Letterbox) -> None:
        for number in (1, 2):
            letterbox.deliver(letter(number))
        cursor = watch.new_mail(None, limit=10).cursor
        letterbox.remove_first()
        assert not watch.wait(AT_ONCE)
        letterbox.deliver(letter(3))
        with soon():
            assert watch.wait(FOREVER)
        assert [mail.raw for mail in watch.new_mail(cursor, limit=10).mails] == [letter(3)]

    def test_a_stop_ends_the_wait_and_every_later_one(self, watch: MailWatch, letterbox: Letterbox) -> None:
        watch.position()
        with soon():
            with meanwhile(watch.stop):
                assert not watch.wait(FOREVER)
            letterbox.deliver(letter(1))
            assert not watch.wait(FOREVER)

    def test_a_closed_watch_can_be_stopped(self, watch: MailWatch) -> None:
        watch.position()
        watch.close()
        watch.stop()


@contextmanager
def soon() -> Iterator[None]:
    """Demand that the block ends long before ``FOREVER``."""
    began = monotonic()
    yield
    assert monotonic() - began < SOON_SECONDS


@contextmanager
def meanwhile(act: Callable[[], object]) -> Iterator[None]:
    """Act in another thread meanwhile."""
    thread = Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        thread.join()
