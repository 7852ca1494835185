"""Watching a mailbox: what servers do to a conversation that is kept for hours."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic

import pytest

from orchestrator.errors import AccessDenied, Unavailable
from orchestrator.plugins import MailWatch
from orchestrator.sandbox.mail_server import MailServer
from orchestrator.testing.contracts.mail_watch import FOREVER, soon
from orchestrator.testing.faults import FaultProxy
from orchestrator_connectors.mail import ImapSettings, MailAccount, MailSettings, SmtpSettings
from orchestrator_connectors.mail.watch import ImapWatch
from tests.support.scripted_imap import WELL, Answers, served

SHOP = "support@shop.example"
BRIEFLY = timedelta(milliseconds=30)


@pytest.fixture(scope="module")
def provider() -> Iterator[MailServer]:
    with MailServer({SHOP: "shop"}) as running:
        yield running


@pytest.fixture
def line(provider: MailServer) -> Iterator[FaultProxy]:
    """The way to the provider's IMAP server."""
    with FaultProxy("127.0.0.1", provider.imap_port) as proxy:
        yield proxy


@contextmanager
def watching(port: int, *, password: str = "shop", timeout_seconds: float = 5) -> Iterator[MailWatch]:
    imap = ImapSettings(host="127.0.0.1", port=port, security="plain", username=SHOP, password=password)
    settings = MailSettings(
        address=SHOP, smtp=SmtpSettings(host="127.0.0.1"), imap=imap, timeout_seconds=timeout_seconds
    )
    watch = MailAccount(settings).watch()
    try:
        yield watch
    finally:
        watch.close()


@contextmanager
def watching_server(answers: Answers) -> Iterator[ImapWatch]:
    """Watch a server that gives these answers."""
    with served(answers) as (imap, account):
        watch = ImapWatch(imap, account=account)
        try:
            yield watch
        finally:
            watch.close()


def write(provider: MailServer) -> None:
    with smtplib.SMTP("127.0.0.1", provider.smtp_port) as smtp:
        smtp.sendmail("ann@example.com", SHOP, b"Subject: hello\r\n\r\nhello\r\n")


def test_all_goes_over_one_conversation(provider: MailServer, line: FaultProxy) -> None:
    with watching(line.port) as watch:
        cursor = watch.position()
        for _ in range(3):
            write(provider)
            with soon():
                assert watch.wait(FOREVER)
            page = watch.new_mail(cursor, limit=10)
            assert len(page.mails) == 1
            cursor = page.cursor
            assert not watch.wait(BRIEFLY)
    assert line.connections == 1


@pytest.mark.parametrize("moment", [b"EXAMINE", b"UID SEARCH"])
def test_a_conversation_that_died_meanwhile_is_begun_anew(
    provider: MailServer, line: FaultProxy, moment: bytes
) -> None:
    with watching(line.port) as watch:
        cursor = watch.position()
        write(provider)
        line.lose_answer(after=moment)
        assert len(watch.new_mail(cursor, limit=10).mails) == 1
    assert line.connections == 2


def test_a_server_that_is_silent_is_noticed(provider: MailServer, line: FaultProxy) -> None:
    with watching(line.port, timeout_seconds=0.3) as watch:
        cursor = watch.position()
        line.hold_answer(after=b"EXAMINE")
        with soon():
            assert watch.new_mail(cursor, limit=10).cursor == cursor
    assert line.connections == 2


def test_a_server_that_is_gone_is_unavailable(provider: MailServer) -> None:
    with FaultProxy("127.0.0.1", provider.imap_port) as proxy, watching(proxy.port) as watch:
        watch.position()
        proxy.__exit__(None, None, None)
        assert not watch.wait(BRIEFLY)
        with pytest.raises(Unavailable):
            watch.position()
        proxy.__enter__()


def test_a_server_that_hangs_up_at_once_is_looked_at_from_time_to_time(provider: MailServer, line: FaultProxy) -> None:
    with watching(line.port) as watch:
        cursor = watch.position()
        line.lose_answer(after=b"IDLE\r\n", passing=len(b"+ Idling.\r\n"))
        began = monotonic()
        assert not watch.wait(BRIEFLY)
        assert monotonic() - began >= BRIEFLY.total_seconds(), "it must not be asked again at once"
        write(provider)
        assert len(watch.new_mail(cursor, limit=10).mails) == 1


def test_before_the_first_look_nothing_is_told(provider: MailServer, line: FaultProxy) -> None:
    with watching(line.port) as watch:
        assert not watch.wait(BRIEFLY)
    assert line.connections == 0


def test_a_wrong_password_is_denied(provider: MailServer) -> None:
    with watching(provider.imap_port, password="wrong") as watch, pytest.raises(AccessDenied):
        watch.position()


IDLES: Answers = {"CAPABILITY": ("* CAPABILITY IMAP4rev1 IDLE", "OK"), "DONE": ("", "OK")}


@pytest.mark.parametrize(
    ("told", "comes"),
    [
        ("+ idling\n* 3 EXISTS", True),
        ("* 3 EXISTS\n+ idling", True),
        ("+ idling\n* OK Still here\n* 3 EXISTS\n* 1 RECENT", True),
        ("+ idling\n* 2 EXISTS", False),
        ("+ idling\n* OK Still here", False),
        ("+ idling\n* 1 EXPUNGE\n* 1 EXISTS", False),
        ("+ idling\n* 1 EXPUNGE\n* 2 EXISTS", True),
        ("+ idling\n* 3 EXISTS\n* 1 EXPUNGE", True),
        ("+ idling\n* 1 FETCH (FLAGS (\\Seen))", False),
        ("+ idling\n* BYE shutting down", False),
        ("+ idling\n* x EXISTS", False),
        ("+ idling\nwhat is this", False),
    ],
)
def test_only_a_mail_more_is_a_mail_that_came(told: str, comes: bool) -> None:
    with watching_server(IDLES | {"IDLE": (told, "")}) as watch:
        watch.position()
        with soon():
            assert watch.wait(BRIEFLY) is comes
        assert watch.position() == "7:11"


@pytest.mark.parametrize(
    "answers",
    [
        WELL,
        IDLES | {"IDLE": ("", "NO")},
        IDLES | {"IDLE": ("", "BAD")},
        IDLES | {"IDLE": ("", None)},
    ],
)
def test_a_server_that_cannot_tell_is_looked_at_from_time_to_time(answers: Answers) -> None:
    with watching_server(answers) as watch:
        watch.position()
        began = monotonic()
        assert not watch.wait(BRIEFLY)
        assert monotonic() - began >= BRIEFLY.total_seconds()
        assert watch.position() == "7:11"


def test_an_account_without_imap_cannot_be_watched() -> None:
    account = MailAccount(MailSettings(address=SHOP, smtp=SmtpSettings(host="127.0.0.1")))
    with pytest.raises(AccessDenied, match="add its section 'imap'"):
        account.watch()
