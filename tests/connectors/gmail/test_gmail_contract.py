"""The gmail connector fulfils the contracts of the mail capabilities, through Google's own client."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import time
from typing import ClassVar

import pytest

from orchestrator.capabilities import OutgoingMail
from orchestrator.errors import AccessDenied
from orchestrator.plugins import DoubtClass
from orchestrator.sandbox.gmail import GmailBox, GmailServer
from orchestrator.testing.contracts.faults import ConnectorHygieneContract, FaultsContract
from orchestrator.testing.contracts.mail import ArrivedMail, MailboxContract, MailerContract, read_mail
from orchestrator.testing.contracts.notices import NOTICE, NotifierContract
from orchestrator.testing.http_server import Fault
from orchestrator_connectors.gmail import GmailAccount
from tests.support.gmail_account import ANN, SHOP, UNKNOWN, account


@pytest.fixture
def server() -> Iterator[GmailServer]:
    with GmailServer(GmailBox(SHOP, refused=frozenset({UNKNOWN}))) as running:
        yield running


@dataclass
class ServedPost:
    server: GmailServer
    known: ClassVar[str] = ANN
    unknown: ClassVar[str] = UNKNOWN

    def arrived(self) -> Sequence[ArrivedMail]:
        return [read_mail(mail.raw) for mail in self.server.box.mails.values() if "SENT" in mail.labels]

    def lose_next_answer(self) -> None:
        self.server.fail_next(Fault(acts=True), on="messages.send")

    def lose_next_request(self) -> None:
        self.server.fail_next(Fault(), on="messages.send")

    def set_clock_off(self, by: timedelta) -> None:
        self.server.box.clock = lambda: time() + by.total_seconds()


class TestGmailAccountSends(MailerContract):
    connector = "gmail"

    @pytest.fixture
    def post(self, server: GmailServer) -> ServedPost:
        return ServedPost(server)

    @pytest.fixture
    def mailer(self, server: GmailServer, tmp_path: Path) -> GmailAccount:
        return account(server, tmp_path / "token")

    def test_a_doubt_is_settled_by_a_search(self, mailer: GmailAccount) -> None:
        assert mailer.settlements["send"].doubt is DoubtClass.PROBE


class Owner:
    """Reads the notices in their mailbox."""

    def __init__(self, post: ServedPost) -> None:
        self._post = post

    def told(self) -> list[str]:
        return [f"{mail.subject}\n{mail.text}" for mail in self._post.arrived() if mail.to == ANN]

    def drop_next_answer(self) -> None:
        self._post.lose_next_answer()


class TestGmailAccountTells(NotifierContract):
    connector = "gmail"

    @pytest.fixture
    def readers(self, server: GmailServer) -> Owner:
        return Owner(ServedPost(server))

    @pytest.fixture
    def notifier(self, server: GmailServer, tmp_path: Path) -> GmailAccount:
        return account(server, tmp_path / "token", notices_to=ANN)

    def test_without_an_owner_the_remedy_is_named(self, server: GmailServer, tmp_path: Path) -> None:
        with pytest.raises(AccessDenied, match="set notices_to"):
            account(server, tmp_path / "token").notify(NOTICE)


@dataclass
class ServedLetterbox:
    box: GmailBox
    max_size_bytes: ClassVar[int] = 4096

    def deliver(self, raw: bytes) -> None:
        self.box.deliver(raw)

    def remove_first(self) -> None:
        self.box.delete(min(self.box.mails))

    def renumber(self) -> None:
        self.box.restore()

    def set_clock_off(self, by: timedelta) -> None:
        self.box.clock = lambda: time() + by.total_seconds()


class TestGmailAccountTakesIn(MailboxContract):
    connector = "gmail"

    @pytest.fixture
    def letterbox(self, server: GmailServer) -> ServedLetterbox:
        return ServedLetterbox(server.box)

    @pytest.fixture
    def mailbox(self, server: GmailServer, letterbox: ServedLetterbox, tmp_path: Path) -> GmailAccount:
        return account(server, tmp_path / "token", max_size_bytes=letterbox.max_size_bytes)


class TestGmailAccountSurvives(FaultsContract):
    connector = "gmail"

    @pytest.fixture
    def gmail(self, server: GmailServer, tmp_path: Path) -> GmailAccount:
        gmail = account(server, tmp_path / "token", timeout_seconds=3)
        # Else the time goes to the first import of Google's libraries, and to the first access token.
        account(server, tmp_path / "token").position()
        return gmail

    @pytest.fixture
    def faults(self, server: GmailServer) -> GmailServer:
        return server

    @pytest.fixture
    def ask(self, faults: GmailServer, gmail: GmailAccount) -> Callable[[], object]:
        return gmail.position

    @pytest.fixture
    def change(self, faults: GmailServer, gmail: GmailAccount) -> Callable[[], object]:
        return lambda: gmail.send(OutgoingMail(to=ANN, subject="s", text="t"), effect_id="effect-1")


class TestGmailAccountBehaves(ConnectorHygieneContract):
    connector = "gmail"

    @pytest.fixture
    def build(self, server: GmailServer, tmp_path: Path) -> Callable[[], GmailAccount]:
        return lambda: account(server, tmp_path / "token")

    @pytest.fixture
    def secret(self, server: GmailServer) -> str:
        return server.consents.client_secret

    @pytest.fixture
    def unreachable(self, tmp_path: Path) -> GmailAccount:
        with GmailServer(GmailBox(SHOP)) as gone:
            return account(gone, tmp_path / "token")

    @pytest.fixture
    def wrong_credential(self, server: GmailServer, secret: str, tmp_path: Path) -> GmailAccount:
        server.consents.client_secret = "another"
        return account(server, tmp_path / "token")
