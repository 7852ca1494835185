"""The mail connector against Dovecot, whose IMAP is that of many providers."""

from __future__ import annotations

import imaplib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest
from imap_tools import MailBoxUnencrypted

from orchestrator.capabilities import Receipt
from orchestrator.errors import AccessDenied
from orchestrator.plugins import MailWatch
from orchestrator.sandbox.mail_server import MailServer
from orchestrator.testing.contracts.mail import MailboxContract
from orchestrator.testing.contracts.mail_watch import FOREVER, MailWatchContract, letter, soon
from orchestrator_connectors.mail import ImapSettings, MailAccount, MailSettings, SmtpSettings
from tests.support.dovecot import PASSWORD, DovecotServer

SHOP = "support@shop.example"
SPECIAL_USE = r"""
namespace inbox {
  mailbox "Sent Items" {
    special_use = \Sent
    auto = create
  }
}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[DovecotServer]:
    with DovecotServer(settings=SPECIAL_USE) as running:
        yield running


@pytest.fixture(scope="module")
def courier() -> Iterator[DovecotServer]:
    """A server whose folders all lie below INBOX, and are parted by dots."""
    with DovecotServer(separator=".", prefix="INBOX.") as running:
        yield running


@pytest.fixture
def login(server: DovecotServer) -> str:
    return server.new_account()


@contextmanager
def client(server: DovecotServer, login: str) -> Iterator[imaplib.IMAP4]:
    """Another program of the same account."""
    with imaplib.IMAP4("127.0.0.1", server.port) as running:
        running.login(login, PASSWORD)
        yield running


def account(
    server: DovecotServer, login: str, *, smtp_port: int = 9, max_size_bytes: int = 4096, **imap: object
) -> MailAccount:
    fields = {"host": "127.0.0.1", "port": server.port, "security": "plain", "username": login, "password": PASSWORD}
    settings = MailSettings(
        address=SHOP,
        smtp=SmtpSettings(host="127.0.0.1", port=smtp_port, security="plain"),
        imap=ImapSettings.model_validate(fields | imap),
        timeout_seconds=20,
        max_size_bytes=max_size_bytes,
    )
    return MailAccount(settings)


class Letterbox:
    """An account's INBOX."""

    max_size_bytes: ClassVar[int] = 4096

    def __init__(self, server: DovecotServer, login: str, conversations: ExitStack) -> None:
        self._server = server
        self._login = login
        self._ahead = timedelta(0)
        self._conversations = conversations
        self._client = conversations.enter_context(client(server, login))

    def deliver(self, raw: bytes) -> None:
        assert self._client.append("INBOX", "", datetime.now(UTC) + self._ahead, raw)[0] == "OK"

    def set_clock_off(self, by: timedelta) -> None:
        self._ahead = by

    def remove_first(self) -> None:
        self._client.select()
        self._client.store("1", "+FLAGS", r"\Deleted")
        self._client.close()

    def renumber(self) -> None:
        self._server.forget_uids(self._login)
        self._client = self._conversations.enter_context(client(self._server, self._login))
        self._client.select()  # numbers the old mails before a new one comes


class WithLetterbox:
    @pytest.fixture
    def letterbox(self, server: DovecotServer, login: str) -> Iterator[Letterbox]:
        with ExitStack() as conversations:
            yield Letterbox(server, login, conversations)


class TestDovecotIsRead(WithLetterbox, MailboxContract):
    @pytest.fixture
    def mailbox(self, server: DovecotServer, login: str, letterbox: Letterbox) -> Checked:
        return Checked(account(server, login))


class TestDovecotIsReadWhileItIsWatched(TestDovecotIsRead):
    @pytest.fixture
    def mailbox(self, server: DovecotServer, login: str, letterbox: Letterbox) -> Iterator[Checked]:
        reader = account(server, login)
        checked = Checked(reader, reader.watch())
        yield checked
        checked.watch.close()


class Checked:
    """A mailbox over a conversation for each look, or over a kept one; SMTP is not there to be checked."""

    def __init__(self, reader: MailAccount, watch: MailWatch | None = None) -> None:
        self.watch = watch
        self.position, self.new_mail = (watch or reader).position, (watch or reader).new_mail
        self.check = reader._incoming().check


class TestDovecotIsWatched(WithLetterbox, MailWatchContract):
    @pytest.fixture
    def watch(self, server: DovecotServer, login: str, letterbox: Letterbox) -> Iterator[MailWatch]:
        watch = account(server, login).watch()
        yield watch
        watch.close()


def test_a_conversation_whose_process_dies_is_begun_anew(server: DovecotServer, login: str) -> None:
    watch = account(server, login).watch()
    cursor = watch.position()
    server.drop_conversations()
    server.put(login, letter(1))
    assert [mail.raw for mail in watch.new_mail(cursor, limit=10).mails] == [letter(1)]
    server.put(login, letter(2))
    with soon():
        assert watch.wait(FOREVER)
    watch.close()


NAMES = ["Envoyés", "送信済み", "Sent & gone", "[Gmail]/Sent Mail", "Sent Items", 'a "quoted" one', "Été/Reçus & Cie"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["server", "courier"])
def test_a_folder_may_have_any_name(request: pytest.FixtureRequest, kind: str, name: str) -> None:
    chosen: DovecotServer = request.getfixturevalue(kind)
    login = chosen.new_account()
    name = name if kind == "server" else f"INBOX.{name.replace('/', '.')}"
    mailbox = account(chosen, login, folder=name)
    if name != "Sent Items":
        with pytest.raises(AccessDenied, match="does not open the folder"):
            mailbox.position()
        make_folder(chosen, login, name)
    assert mailbox.position()
    with pytest.raises(AccessDenied) as caught:
        account(chosen, login, folder="Nowhere").position()
    assert name in str(caught.value)


def make_folder(server: DovecotServer, login: str, name: str) -> None:
    with MailBoxUnencrypted("127.0.0.1", server.port).login(login, PASSWORD) as box:
        box.folder.create(name)


def test_names_that_are_no_folders_are_not_offered(server: DovecotServer, login: str) -> None:
    make_folder(server, login, "[Gmail]/Drafts")
    with pytest.raises(AccessDenied) as caught:
        account(server, login, folder="Nowhere").position()
    offered = str(caught.value).partition("there are: ")[2]
    assert offered == "[Gmail]/Drafts, Sent Items, INBOX (sent mail: Sent Items)"


def test_a_check_names_the_folder_that_the_server_names_for_sent_mail(server: DovecotServer, login: str) -> None:
    with MailServer({SHOP: "shop"}) as smtp:
        seen = account(server, login, smtp_port=smtp.smtp_port).check()
        assert "holds 0 mails in INBOX, and sent mail cannot be looked up" in seen
        assert "the server names 'Sent Items': set it if the provider itself files there what it sends" in seen
        told = account(server, login, smtp_port=smtp.smtp_port, sent_folder="Sent Items").check()
        assert told.endswith("and sent mail is looked up in Sent Items")
        with pytest.raises(
            AccessDenied, match=r"folder 'Sent': correct imap.sent_folder; there are: .*\(sent mail: Sent Items\)"
        ):
            account(server, login, smtp_port=smtp.smtp_port, sent_folder="Sent").check()


def test_a_sent_mail_is_found_where_the_provider_files_it(server: DovecotServer, login: str) -> None:
    mailbox = account(server, login, sent_folder="Sent Items")
    assert mailbox.find_sent("effect-1") is None
    with client(server, login) as other:
        other.append('"Sent Items"', "", "", b"Message-ID: <effect-1@shop.example>\r\n\r\nhello\r\n")
    assert mailbox.find_sent("effect-1") == Receipt(reference="<effect-1@shop.example>")
    assert mailbox.find_sent("effect-11") is None
