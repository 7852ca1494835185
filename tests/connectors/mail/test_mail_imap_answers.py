"""What IMAP servers may answer, and what they must not: a scripted server plays each."""

from __future__ import annotations

import imaplib
import random
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import imap_tools.errors
import pytest
from imap_tools import ImapToolsError
from imap_tools.errors import UnexpectedCommandStatusError

from orchestrator.capabilities import MailPage, RawMail
from orchestrator.errors import AccessDenied, ConnectorError, RateLimited, Unavailable
from orchestrator_connectors.mail.conversation import translated
from orchestrator_connectors.mail.imap import ImapMailbox
from tests.support.scripted_imap import WELL, Answers, served

ARRIVED = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
BODIES = "UID FETCH 10,11 (UID BODY.PEEK[]"
SIZES = "UID FETCH 10,11 (UID RFC822"


@contextmanager
def mailbox(answers: Answers, *, password: str = "secret", **spoil: object) -> Iterator[ImapMailbox]:
    with served(answers, password=password, **spoil) as (imap, account):
        yield ImapMailbox(imap, account=account)


def mail(uid: int, raw: bytes) -> RawMail:
    return RawMail(key=f"7:{uid}", raw=raw, received_at=ARRIVED)


TEN, ELEVEN = mail(10, b"ten\n"), mail(11, b"11!\n")


@pytest.mark.parametrize(
    ("command", "untagged", "mails"),
    [
        (BODIES, WELL[BODIES][0], (TEN, ELEVEN)),
        (BODIES, "* 2 FETCH (BODY[] {4}\n11!\n UID 11)\n* 1 FETCH (BODY[] {4}\nten\n UID 10)", (TEN, ELEVEN)),
        (BODIES, '* 1 FETCH (UID 10 BODY[] "a \\"UID 11\\" b")', (mail(10, b'a "UID 11" b'),)),
        (BODIES, '* 1 FETCH (BODY[] "UID 11" UID 10)', (mail(10, b"UID 11"),)),
        (BODIES, '* 1 FETCH (UID 10 BODY[] "")', (mail(10, b""),)),
        (BODIES, "* 3 FETCH (FLAGS (\\Seen))\n* 1 FETCH (UID 10 BODY[] {4}\nten\n)", (TEN,)),
        (BODIES, "* 1 FETCH (UID 10 BODY[] NIL)\n* 2 FETCH (UID 11 BODY[] {4}\n11!\n)", (ELEVEN,)),
        (BODIES, "* 1 FETCH (UID 10 BODY[] {4}\nten\n FLAGS (\\Seen))\n* 9 EXISTS", (TEN,)),
        (BODIES, "", ()),
        (SIZES, f"{WELL[SIZES][0]}\n* 1 FETCH (FLAGS (\\Seen) UID 10)", (TEN, ELEVEN)),
        (SIZES, WELL[SIZES][0].replace("+0000", "-0000"), (TEN, ELEVEN)),
    ],
)
def test_answers_are_understood_in_every_form(command: str, untagged: str, mails: tuple[RawMail, ...]) -> None:
    with mailbox({command: (untagged, "OK")}) as reader:
        assert reader.new_mail(None, limit=10) == MailPage(mails=mails, cursor="7:11")


def test_when_all_listed_mails_are_gone_the_cursor_stays() -> None:
    with mailbox({SIZES: ("", "OK")}) as reader:
        assert reader.new_mail("7:3", limit=10) == MailPage(mails=(), cursor="7:3")


def test_a_server_that_lists_the_last_mail_again_shows_nothing_new() -> None:
    with mailbox({"UID SEARCH": ("* SEARCH 10", "OK")}) as reader:
        assert reader.new_mail("7:10", limit=10) == MailPage(mails=(), cursor="7:10")


@pytest.mark.parametrize(
    ("command", "answer", "error"),
    [
        ("LOGIN", ("", "NO [AUTHENTICATIONFAILED]"), AccessDenied),
        ("LOGIN", ("", "NO"), AccessDenied),
        ("LOGIN", ("", "BAD"), AccessDenied),
        ("LOGIN", ("", "NO [UNAVAILABLE]"), Unavailable),
        ("LOGIN", ("* BYE too many connections", None), Unavailable),
        ("LOGIN", ("", "NO [LIMIT] LOGIN rate limit hit"), RateLimited),
        ("UID SEARCH", ("", "NO [THROTTLED]"), RateLimited),
        ("EXAMINE", ("", "NO [NONEXISTENT]"), AccessDenied),
        ("EXAMINE", ("", "NO [SERVERBUG]"), Unavailable),
        ("EXAMINE", ("* 2 EXISTS\n* OK [UIDVALIDITY 7] x", "OK"), Unavailable),
        ("EXAMINE", ("* OK [UIDVALIDITY 7] x\n* OK [UIDNEXT 12] x", "OK"), Unavailable),
        ("EXAMINE", ("* 2 EXISTS\n* OK [UIDVALIDITY x] x\n* OK [UIDNEXT 12] x", "OK"), Unavailable),
        ("UID SEARCH", ("", "NO"), Unavailable),
        ("UID SEARCH", ("* SEARCH 1 x", "OK"), Unavailable),
        (SIZES, ("", "NO"), Unavailable),
        (SIZES, (WELL[SIZES][0].replace("Nov", "Foo"), "OK"), Unavailable),
        (BODIES, ("", "NO"), Unavailable),
        *((command, ("", "BAD"), Unavailable) for command in ("CAPABILITY", "EXAMINE", "UID SEARCH", SIZES, BODIES)),
        *((command, ("", None), Unavailable) for command in (*WELL,) if command not in {"LIST", "LOGOUT"}),
        *((command, ("* 1 FETCH (UID", None), Unavailable) for command in (SIZES, BODIES)),
    ],
)
def test_what_cannot_be_read_is_reported(
    command: str, answer: tuple[str, str | None], error: type[ConnectorError]
) -> None:
    with mailbox({command: answer}) as reader, pytest.raises(ConnectorError) as caught:
        reader.new_mail(None, limit=10)
    assert type(caught.value) is error
    assert "secret" not in str(caught.value)


def test_a_login_may_hold_quotes() -> None:
    with mailbox(
        {'LOGIN "shop" "quo\\"ted \\\\ one"': ("", "OK"), "LOGIN": ("", "NO")}, password='quo"ted \\ one'
    ) as reader:
        assert reader.position() == "7:11"


def test_a_password_that_the_server_cannot_take_needs_another() -> None:
    with mailbox({}, password="pässword") as reader, pytest.raises(AccessDenied, match="refuses the login"):
        reader.position()


@pytest.mark.parametrize("seed", range(30))
def test_garbage_is_reported_and_never_raises_anything_else(seed: int) -> None:
    chance = random.Random(seed)

    def spoil(answer: bytes) -> bytes:
        spoilt = bytearray(answer)
        for _ in range(chance.choice([0, 0, 1, 3])):
            if spoilt:
                spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
        return bytes(spoilt)

    with mailbox({}, spoil=staticmethod(spoil)) as reader, suppress(ConnectorError):
        assert reader.new_mail(None, limit=10).cursor


CERTIFICATE = ssl.SSLCertVerificationError(1, "certificate verify failed")
CERTIFICATE.verify_message = "self-signed certificate"


@pytest.mark.parametrize(
    ("exception", "error"),
    [
        (imaplib.IMAP4.error("EXAMINE command error"), Unavailable),
        (imaplib.IMAP4.abort("socket error: EOF"), Unavailable),
        (imaplib.IMAP4.readonly("mailbox status changed to READ-ONLY"), Unavailable),
        (TimeoutError("timed out"), Unavailable),
        (ConnectionRefusedError(111, "Connection refused"), Unavailable),
        (socket.gaierror(-2, "Name or service not known"), Unavailable),
        (ssl.SSLError(1, "wrong version number"), Unavailable),
        (CERTIFICATE, AccessDenied),
        (UnicodeDecodeError("ascii", b"\xff", 0, 1, "not in range"), Unavailable),
        (ImapToolsError("what"), Unavailable),
    ],
)
def test_every_exception_has_a_meaning(exception: Exception, error: type[ConnectorError]) -> None:
    translation = translated(exception, place="mail.example.com:993")
    assert type(translation) is error
    assert "mail.example.com:993" in str(translation)


def test_every_exception_of_the_libraries_is_known() -> None:
    protocol = {kind for kind in vars(imaplib.IMAP4).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert protocol == {imaplib.IMAP4.error, imaplib.IMAP4.abort, imaplib.IMAP4.readonly}
    tools = {
        kind
        for kind in vars(imap_tools.errors).values()
        if isinstance(kind, type) and kind.__module__ == "imap_tools.errors"
    }
    assert all(issubclass(kind, ImapToolsError) for kind in tools)
    assert UnexpectedCommandStatusError in tools
