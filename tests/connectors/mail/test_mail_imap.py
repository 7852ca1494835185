"""Reading by IMAP against a real server: pages, limits, folders, flags and time."""

from __future__ import annotations

import imaplib
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest

from orchestrator.capabilities import OutgoingMail
from orchestrator.errors import AccessDenied, Rejected, Unavailable
from orchestrator.plugins import DoubtClass
from orchestrator.sandbox.mail_server import MailServer
from orchestrator.testing.faults import FaultProxy
from orchestrator_connectors.mail import ImapSettings, MailAccount, MailSettings, SmtpSettings
from orchestrator_connectors.mail.folder import windows

SHOP = "support@shop.example"
MAIL = OutgoingMail(to=SHOP, subject="s", text="t")


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer({SHOP: "shöp"}) as running:
        yield running


@pytest.fixture
def client(server: MailServer) -> Iterator[imaplib.IMAP4]:
    """Another program of the same account."""
    with imaplib.IMAP4("127.0.0.1", server.imap_port) as running:
        running.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each APPEND takes 40 ms
        running.authenticate("PLAIN", lambda _: f"\0{SHOP}\0shöp".encode())
        yield running


def account(
    server: MailServer,
    *,
    port: int | None = None,
    timeout_seconds: float = 30,
    max_size_bytes: int = 4096,
    **imap: object,
) -> MailAccount:
    fields = {"host": "127.0.0.1", "port": port or server.imap_port, "security": "plain", "username": SHOP}
    settings = MailSettings(
        address=SHOP,
        smtp=SmtpSettings(host="127.0.0.1", port=server.smtp_port, security="plain"),
        imap=ImapSettings.model_validate(fields | {"password": "shöp"} | imap),
        timeout_seconds=timeout_seconds,
        max_size_bytes=max_size_bytes,
    )
    return MailAccount(settings)


def deliver(client: imaplib.IMAP4, *mails: bytes) -> None:
    for raw in mails:
        assert client.append("INBOX", "", "", raw)[0] == "OK"


def letter(number: int, size: int = 0) -> bytes:
    return (b"Subject: mail %d\r\n\r\n" % number) + b"x" * 60 * (size // 62) + b"\r\n"


def test_reading_leaves_every_flag_as_it_was(server: MailServer, client: imaplib.IMAP4) -> None:
    deliver(client, letter(1))
    client.select("INBOX", readonly=True)
    before = client.fetch("1", "(FLAGS)")
    account(server).new_mail(None, limit=10)
    assert client.fetch("1", "(FLAGS)") == before


def test_the_last_mail_is_not_shown_again_when_newer_ones_were_deleted(
    server: MailServer, client: imaplib.IMAP4
) -> None:
    deliver(client, letter(1), letter(2))
    mailbox = account(server)
    first = mailbox.new_mail(None, limit=1)
    client.select("INBOX")
    client.store("2", "+FLAGS", r"\Deleted")
    client.expunge()
    assert client.uid("SEARCH", f"UID {int(first.cursor.partition(':')[2]) + 1}:*")[1] != [b""], "the server's habit"
    page = mailbox.new_mail(first.cursor, limit=10)
    assert (page.mails, page.cursor) == ((), first.cursor)


def test_keys_and_cursors_are_made_of_uidvalidity_and_uid(server: MailServer, client: imaplib.IMAP4) -> None:
    deliver(client, letter(1))
    client.select("INBOX", readonly=True)
    validity = client.response("UIDVALIDITY")[1][0].decode()
    uid = client.uid("SEARCH", "ALL")[1][0].decode()
    page = account(server).new_mail(None, limit=10)
    assert page.cursor == page.mails[0].key == f"{validity}:{uid}"
    assert account(server).position() == page.cursor


def test_a_mail_carries_the_servers_time_in_utc(server: MailServer, client: imaplib.IMAP4) -> None:
    client.append("INBOX", "", '"01-Feb-2026 01:30:00 +0200"', letter(1))
    (mail,) = account(server).new_mail(None, limit=1).mails
    assert mail.received_at == datetime(2026, 1, 31, 23, 30, tzinfo=UTC)
    assert mail.received_at.utcoffset() == timedelta(0)


def test_a_page_holds_no_more_bytes_than_one_mail_may(server: MailServer, client: imaplib.IMAP4) -> None:
    deliver(client, *(letter(number, size=1500) for number in range(5)))
    mailbox = account(server)
    pages = [mailbox.new_mail(None, limit=10)]
    while pages[-1].mails:
        pages.append(mailbox.new_mail(pages[-1].cursor, limit=10))
    assert [len(page.mails) for page in pages] == [2, 2, 1, 0]
    assert [mail.raw for page in pages for mail in page.mails] == [letter(number, size=1500) for number in range(5)]


def test_of_endless_headers_only_the_beginning_is_read(server: MailServer, client: imaplib.IMAP4) -> None:
    headers = b"".join(b"X-Header-%06d: %s\r\n" % (number, b"x" * 60) for number in range(5000))
    deliver(client, headers + b"\r\nhello\r\n", letter(2))
    mailbox = account(server)
    page = mailbox.new_mail(None, limit=10)
    assert [(mail.raw, mail.truncated) for mail in page.mails] == [(headers[: 256 * 1024], True)]
    assert [mail.raw for mail in mailbox.new_mail(page.cursor, limit=10).mails] == [letter(2)]


def test_a_limit_below_one_is_rejected(server: MailServer) -> None:
    with pytest.raises(Rejected, match="limit"):
        account(server).new_mail(None, limit=0)


@pytest.mark.parametrize(
    ("first", "end", "count", "expected"),
    [
        (1, 1, 0, []),
        (8, 5, 3, []),
        (1, 10, 9, ["1:*"]),
        (7, 4_000_000_000, 50_000, ["7:*"]),
        (1, 120_001, 120_000, ["1:50000", "50001:100000", "100001:120000"]),
    ],
)
def test_no_search_names_too_many_mails(first: int, end: int, count: int, expected: list[str]) -> None:
    assert list(windows(first, end, count=count)) == expected


def test_a_check_says_what_it_saw(server: MailServer, client: imaplib.IMAP4) -> None:
    deliver(client, letter(1), letter(2))
    smtp, imap = f"127.0.0.1:{server.smtp_port}", f"127.0.0.1:{server.imap_port}"
    assert account(server, sent_folder="Sent").check() == (
        f"SMTP server {smtp} answers; IMAP server {imap} holds 2 mails in INBOX, and sent mail is looked up in Sent"
    )
    assert account(server).check().endswith("(imap.sent_folder is not set): a person settles doubts")


@pytest.mark.parametrize("setting", ["folder", "sent_folder"])
def test_a_folder_that_does_not_exist_is_named_with_those_that_do(server: MailServer, setting: str) -> None:
    said = rf"does not open the folder 'Nowhere': correct imap\.{setting}; there are: INBOX, Sent"
    with pytest.raises(AccessDenied, match=said):
        account(server, **{setting: "Nowhere"}).check()


@pytest.mark.parametrize("name", ["Envoyés", "送信済み", "Sent & gone", 'a "quoted" one'])
def test_a_folder_may_have_any_name(server: MailServer, client: imaplib.IMAP4, name: str) -> None:
    mailbox = account(server, folder=name)
    with pytest.raises(AccessDenied):
        mailbox.position()
    client.create(_as_imap_writes(name))
    assert mailbox.position()
    with pytest.raises(AccessDenied) as caught:
        account(server, folder="Nowhere").check()
    assert name in str(caught.value)


def _as_imap_writes(name: str) -> str:
    """Write modified UTF-7 (RFC 3501 section 5.1.3) within quotes."""
    known = {"Envoyés": "Envoy&AOk-s", "送信済み": "&kAFP4W4IMH8-", "Sent & gone": "Sent &- gone"}
    return '"{}"'.format(known.get(name, name).replace('"', '\\"'))


def test_a_wrong_password_is_denied(server: MailServer) -> None:
    with pytest.raises(AccessDenied, match=r"correct imap\.username and imap\.password") as caught:
        account(server, password="wrong").position()
    assert "wrong" not in str(caught.value)


def test_a_server_that_is_not_there_is_unavailable(server: MailServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(Unavailable, match="Connection refused"):
        account(server, port=port).position()


@pytest.mark.parametrize(
    "moment", [b"CAPABILITY\r\n", b"AUTHENTICATE", b"EXAMINE", b"UID SEARCH", b"RFC822.SIZE", b"PEEK"]
)
@pytest.mark.parametrize("fault", ["lose", "cut", "trickle", "hold"])
def test_a_fault_at_any_moment_makes_the_mailbox_unavailable_in_time(
    server: MailServer, client: imaplib.IMAP4, moment: bytes, fault: str
) -> None:
    deliver(client, letter(1))
    with FaultProxy("127.0.0.1", server.imap_port) as proxy:
        faults = {
            "lose": lambda: proxy.lose_answer(after=moment),
            "cut": lambda: proxy.lose_answer(after=moment, passing=12),
            "trickle": lambda: proxy.trickle_answer(after=moment, pause=0.15),
            "hold": lambda: proxy.hold_answer(after=moment),
        }
        faults[fault]()
        began = monotonic()
        with pytest.raises(Unavailable):
            account(server, port=proxy.port, timeout_seconds=0.8).new_mail(None, limit=10)
        assert (proxy.pending, monotonic() - began < 5) == (False, True)


def test_a_lost_farewell_costs_nothing(server: MailServer, client: imaplib.IMAP4) -> None:
    deliver(client, letter(1))
    with FaultProxy("127.0.0.1", server.imap_port) as proxy:
        proxy.lose_answer(after=b"LOGOUT")
        assert len(account(server, port=proxy.port).new_mail(None, limit=10).mails) == 1


def test_without_a_sent_folder_a_person_settles_a_doubt(server: MailServer) -> None:
    mailbox = account(server)
    assert mailbox.settlements["send"].doubt is DoubtClass.NONE
    with pytest.raises(AccessDenied, match=r"set imap\.sent_folder"):
        mailbox.find_sent("effect-1")


def test_with_a_sent_folder_a_doubt_is_settled_by_a_look(server: MailServer) -> None:
    mailbox = account(server, sent_folder="Sent", timeout_seconds=7)
    settlement = mailbox.settlements["send"]
    assert (settlement.doubt, settlement.timeout, settlement.visibility_delay) == (
        DoubtClass.PROBE,
        timedelta(seconds=7),
        timedelta(seconds=60),
    )
    sent = mailbox.send(MAIL, effect_id="effect-1")
    assert settlement.probe is not None
    assert settlement.probe("effect-1", mail=MAIL) == sent
    assert settlement.probe("effect-11", mail=MAIL) is None


def test_a_look_that_fails_is_never_an_absence(server: MailServer) -> None:
    with pytest.raises(AccessDenied):
        account(server, sent_folder="Nowhere").find_sent("effect-1")
    with FaultProxy("127.0.0.1", server.imap_port) as proxy:
        proxy.lose_answer(after=b"UID SEARCH", passing=8)
        with pytest.raises(Unavailable):
            account(server, port=proxy.port, sent_folder="Sent").find_sent("effect-1")


def test_an_account_has_settlements_for_its_effects_alone(server: MailServer) -> None:
    assert set(account(server).settlements) == {"send", "notify"}


def test_an_account_without_imap_has_no_mailbox(server: MailServer) -> None:
    smtp = SmtpSettings(host="127.0.0.1", port=server.smtp_port, security="plain")
    mailbox = MailAccount(MailSettings(address=SHOP, smtp=smtp))
    assert mailbox.check() == f"SMTP server 127.0.0.1:{server.smtp_port} answers"
    assert mailbox.settlements["send"].doubt is DoubtClass.NONE
    with pytest.raises(AccessDenied, match="add its section 'imap'"):
        mailbox.position()
