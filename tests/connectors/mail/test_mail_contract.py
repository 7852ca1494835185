"""The mail connector and the fakes fulfil the contracts of the mail capabilities."""

from __future__ import annotations

import imaplib
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest

from orchestrator.capabilities import OutgoingMail
from orchestrator.errors import AccessDenied
from orchestrator.plugins import DoubtClass, MailWatch
from orchestrator.sandbox.mail_server import MailServer
from orchestrator.testing.contracts.faults import ConnectorHygieneContract, FaultsContract
from orchestrator.testing.contracts.mail import ArrivedMail, MailboxContract, MailerContract, read_mail
from orchestrator.testing.contracts.mail_watch import MailWatchContract
from orchestrator.testing.contracts.notices import NOTICE, NotifierContract
from orchestrator.testing.fake_backends import FakeLetterbox, FakePost
from orchestrator.testing.faults import FaultProxy
from orchestrator.testing.mail import FakeMailbox, FakeMailer
from orchestrator_connectors.mail import ImapSettings, MailAccount, MailSettings, SmtpSettings

SHOP, ANN, BOB = "support@shop.example", "ann@example.com", "bob@example.com"
PASSWORD = "correct horse battery staple"
END_OF_MAIL = b"\r\n.\r\n"


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer({SHOP: "shop", ANN: "ann", BOB: "bob"}) as running:
        yield running


@pytest.fixture
def strict() -> Iterator[MailServer]:
    """A provider that takes no mail without a login."""
    with MailServer({SHOP: "shop", ANN: "ann"}, auth_required=True) as running:
        yield running


def imap(server: MailServer, address: str, *, folder: str = "INBOX", sent_folder: str | None = None) -> ImapSettings:
    return ImapSettings(
        host="127.0.0.1",
        port=server.imap_port,
        security="plain",
        username=address,
        password=address.partition("@")[0].replace("support", "shop"),
        folder=folder,
        sent_folder=sent_folder,
    )


def account(
    smtp_port: int, incoming: ImapSettings, *, max_size_bytes: int = 1_000_000, notices_to: str | None = None
) -> MailAccount:
    return MailAccount(
        MailSettings(
            address=f"The Shop <{SHOP}>",
            notices_to=notices_to,
            smtp=SmtpSettings(host="127.0.0.1", port=smtp_port, security="plain"),
            imap=incoming,
            timeout_seconds=30,
            max_size_bytes=max_size_bytes,
            visibility_delay_seconds=0,
        )
    )


@dataclass
class ServedPost:
    server: MailServer
    proxy: FaultProxy
    known: ClassVar[str] = ANN
    unknown: ClassVar[str] = "nobody@example.com"

    def arrived(self) -> Sequence[ArrivedMail]:
        readers = [account(self.proxy.port, imap(self.server, name)) for name in (SHOP, ANN, BOB)]
        pages = [reader.new_mail(None, limit=100) for reader in readers]
        return [read_mail(mail.raw) for page in pages for mail in page.mails]

    def lose_next_answer(self) -> None:
        self.proxy.lose_answer(after=END_OF_MAIL)

    def lose_next_request(self) -> None:
        self.proxy.lose_request(at=END_OF_MAIL)

    def set_clock_off(self, by: timedelta) -> None:
        self.server.ahead = by


class TestMailAccountSends(MailerContract):
    connector = "mail"

    @pytest.fixture
    def post(self, server: MailServer) -> Iterator[ServedPost]:
        with FaultProxy("127.0.0.1", server.smtp_port) as proxy:
            yield ServedPost(server, proxy)

    @pytest.fixture
    def mailer(self, server: MailServer, post: ServedPost) -> MailAccount:
        return account(post.proxy.port, imap(server, SHOP, sent_folder="Sent"))

    def test_a_doubt_is_settled_by_a_look_into_the_sent_folder(self, mailer: MailAccount) -> None:
        assert mailer.settlements["send"].doubt is DoubtClass.PROBE


class Owner:
    """Reads the notices in their mailbox."""

    def __init__(self, post: ServedPost) -> None:
        self._post = post

    def told(self) -> list[str]:
        mails = [mail for mail in self._post.arrived() if mail.to == BOB]
        return [f"{mail.subject}\n{mail.text}" for mail in mails]

    def drop_next_answer(self) -> None:
        self._post.lose_next_answer()


class TestMailAccountTells(NotifierContract):
    connector = "mail"

    @pytest.fixture
    def post(self, server: MailServer) -> Iterator[ServedPost]:
        with FaultProxy("127.0.0.1", server.smtp_port) as proxy:
            yield ServedPost(server, proxy)

    @pytest.fixture
    def notifier(self, server: MailServer, post: ServedPost) -> MailAccount:
        return account(post.proxy.port, imap(server, SHOP, sent_folder="Sent"), notices_to=BOB)

    @pytest.fixture
    def readers(self, post: ServedPost) -> Owner:
        return Owner(post)

    def test_a_doubt_is_settled_by_a_look_into_the_sent_folder(self, notifier: MailAccount) -> None:
        probe = notifier.settlements["notify"].probe
        assert probe is not None
        assert probe("f-1", notice=NOTICE) is None
        notifier.notify(NOTICE, effect_id="f-1")
        assert probe("f-1", notice=NOTICE)

    def test_without_an_owner_the_remedy_is_named(self, server: MailServer) -> None:
        with pytest.raises(AccessDenied, match="set notices_to"):
            account(server.smtp_port, imap(server, SHOP)).notify(NOTICE)


class TestMailAccountTakesIn(MailboxContract):
    connector = "mail"

    folder = "Support"

    @pytest.fixture
    def letterbox(self, server: MailServer) -> Iterator[ServedLetterbox]:
        with imaplib.IMAP4("127.0.0.1", server.imap_port) as client:
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each APPEND takes 40 ms
            client.login(SHOP, "shop")
            client.create(self.folder)
            yield ServedLetterbox(client, self.folder)
            client.delete(self.folder)

    @pytest.fixture
    def mailbox(self, server: MailServer, letterbox: ServedLetterbox) -> MailAccount:
        incoming = imap(server, SHOP, folder=self.folder)
        return account(server.smtp_port, incoming, max_size_bytes=letterbox.max_size_bytes)


class Watched:
    """A mailbox that is read over one kept conversation."""

    def __init__(self, account: MailAccount) -> None:
        self.watch = account.watch()
        self.position, self.new_mail, self.check = self.watch.position, self.watch.new_mail, account.check


class TestWatchedMailAccountTakesIn(TestMailAccountTakesIn):
    @pytest.fixture
    def mailbox(self, server: MailServer, letterbox: ServedLetterbox) -> Iterator[Watched]:
        incoming = imap(server, SHOP, folder=self.folder)
        watched = Watched(account(server.smtp_port, incoming, max_size_bytes=letterbox.max_size_bytes))
        yield watched
        watched.watch.close()


class TestMailAccountIsWatched(MailWatchContract):
    folder, letterbox = TestMailAccountTakesIn.folder, TestMailAccountTakesIn.letterbox

    @pytest.fixture
    def watch(self, server: MailServer, letterbox: ServedLetterbox) -> Iterator[MailWatch]:
        watch = account(server.smtp_port, imap(server, SHOP, folder=self.folder)).watch()
        yield watch
        watch.close()


@dataclass
class ServedLetterbox:
    client: imaplib.IMAP4
    folder: str
    ahead: timedelta = timedelta(0)
    max_size_bytes: ClassVar[int] = 4096

    def deliver(self, raw: bytes) -> None:
        arrives = datetime.now(UTC) + self.ahead
        assert self.client.append(self.folder, "", arrives, raw)[0] == "OK"

    def set_clock_off(self, by: timedelta) -> None:
        self.ahead = by

    def remove_first(self) -> None:
        self.client.select(self.folder)
        self.client.store("1", "+FLAGS", r"\Deleted")
        self.client.close()

    def renumber(self) -> None:
        self.client.create("Restored")
        self.client.select(self.folder)
        self.client.copy("1:*", "Restored")
        self.client.close()
        self.client.delete(self.folder)
        self.client.rename("Restored", self.folder)


class MailFaults:
    """Lets the next look into a folder fail, and the next mail; each in the words of its protocol.

    SMTP asks to slow down by 450 with the class "policy" (RFC 3463), IMAP by LIMIT (RFC 5530).
    """

    SMTP: ClassVar = {429: b"450 4.7.1 Too much mail", 500: b"451 4.3.0 Local error", 502: b"421 4.3.2 Going down"}
    IMAP: ClassVar = {429: b"NO [LIMIT] Too many commands", 500: b"NO [SERVERBUG] Oops"}

    def __init__(self, server: MailServer, smtp: FaultProxy, imap: FaultProxy) -> None:
        self._server, self.smtp, self.imap = server, smtp, imap

    def refuse(self, status: int, **_headers: str) -> None:
        said = self.SMTP.get(status, b"451 4.4.1 No answer from behind") + b"\r\n"
        self.smtp.refuse_request(at=b"MAIL FROM", answer=lambda _: said)
        result = self.IMAP.get(status, b"NO [UNAVAILABLE] No answer from behind") + b"\r\n"
        self.imap.refuse_request(at=b"EXAMINE", answer=lambda command: command.split()[0] + b" " + result)

    def drop(self) -> None:
        self.smtp.lose_answer(after=END_OF_MAIL)
        self.imap.lose_answer(after=b"EXAMINE")

    def cut(self) -> None:
        self.smtp.lose_answer(after=END_OF_MAIL, passing=2)
        self.imap.lose_answer(after=b"EXAMINE", passing=12)

    def silence(self) -> None:
        self.smtp.hold_answer(after=END_OF_MAIL)
        self.imap.hold_answer(after=b"EXAMINE")

    def drip(self) -> None:
        self.smtp.trickle_answer(after=END_OF_MAIL, pause=1)
        self.imap.trickle_answer(after=b"EXAMINE", pause=1)

    def garbage(self) -> None:
        self.smtp.replace_answer(after=END_OF_MAIL, by=b"<html>\r\n")
        self.imap.replace_answer(after=b"EXAMINE", by=b"<html>\r\n")

    def fail_after_acting(self) -> None:
        self.smtp.replace_answer(after=END_OF_MAIL, by=b"421 4.3.2 Going down\r\n")

    def revoke(self) -> None:
        self._server.change_password(SHOP, "another")


def logged_in(smtp_port: int, imap_port: int, *, password: str = "shop", timeout_seconds: float = 30) -> MailAccount:
    """Connect to an account whose provider wants a login for everything."""
    login = {"host": "127.0.0.1", "security": "plain", "username": SHOP, "password": password}
    return MailAccount(
        MailSettings(
            address=f"The Shop <{SHOP}>",
            smtp=SmtpSettings.model_validate(login | {"port": smtp_port}),
            imap=ImapSettings.model_validate(login | {"port": imap_port, "sent_folder": "Sent"}),
            timeout_seconds=timeout_seconds,
        )
    )


class TestMailAccountSurvives(FaultsContract):
    connector = "mail"
    deviations: ClassVar = {
        "test_the_wait_that_the_system_asks_for_is_handed_on": "neither SMTP nor IMAP can say how long to wait"
    }

    @pytest.fixture
    def faults(self, strict: MailServer) -> Iterator[MailFaults]:
        with FaultProxy("127.0.0.1", strict.smtp_port) as smtp, FaultProxy("127.0.0.1", strict.imap_port) as imap:
            yield MailFaults(strict, smtp, imap)

    @pytest.fixture
    def mail(self, faults: MailFaults) -> MailAccount:
        return logged_in(faults.smtp.port, faults.imap.port, timeout_seconds=3)

    @pytest.fixture
    def ask(self, mail: MailAccount) -> Callable[[], object]:
        return mail.position

    @pytest.fixture
    def change(self, mail: MailAccount) -> Callable[[], object]:
        return lambda: mail.send(OutgoingMail(to=ANN, subject="s", text="t"), effect_id="effect-1")


class TestMailAccountBehaves(ConnectorHygieneContract):
    connector = "mail"

    @pytest.fixture
    def build(self, strict: MailServer) -> Callable[[], MailAccount]:
        return lambda: logged_in(strict.smtp_port, strict.imap_port, password=PASSWORD)

    @pytest.fixture
    def secret(self) -> str:
        return PASSWORD

    @pytest.fixture
    def unreachable(self, secret: str) -> MailAccount:
        with MailServer({SHOP: secret}) as gone:
            pass
        return logged_in(gone.smtp_port, gone.imap_port, password=secret)

    @pytest.fixture
    def wrong_credential(self, strict: MailServer, secret: str) -> MailAccount:
        return logged_in(strict.smtp_port, strict.imap_port, password=secret)


class TestFakeMailer(MailerContract):
    @pytest.fixture
    def post(self) -> FakePost:
        unknown = "nobody@example.com"
        return FakePost(FakeMailer(unknown), known=ANN, unknown=unknown)

    @pytest.fixture
    def mailer(self, post: FakePost) -> FakeMailer:
        return post.mailer


class TestFakeMailbox(MailboxContract):
    @pytest.fixture
    def letterbox(self) -> FakeLetterbox:
        return FakeLetterbox(FakeMailbox(max_size_bytes=4096), max_size_bytes=4096)

    @pytest.fixture
    def mailbox(self, letterbox: FakeLetterbox) -> FakeMailbox:
        return letterbox.mailbox


class TestFakeMailboxIsWatched(MailWatchContract):
    @pytest.fixture
    def letterbox(self) -> FakeLetterbox:
        return FakeLetterbox(FakeMailbox(max_size_bytes=4096), max_size_bytes=4096)

    @pytest.fixture
    def watch(self, letterbox: FakeLetterbox) -> MailWatch:
        return letterbox.mailbox.watch()
