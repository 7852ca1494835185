"""The gmail connector fulfils the contracts of the mail capabilities, through Google's own client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from sample_gmail import ANN, SHOP, UNKNOWN, account

from connectors.gmail import GmailAccount
from orchestrator.errors import AccessDenied
from orchestrator.plugins import DoubtClass
from orchestrator.sandbox.gmail import Fault, GmailBox, GmailServer
from orchestrator.testing.contracts.mail import ArrivedMail, MailboxContract, MailerContract, read_mail
from orchestrator.testing.contracts.notices import NOTICE, NotifierContract


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
        self.server.fail_next("messages.send", Fault(acts=True))

    def lose_next_request(self) -> None:
        self.server.fail_next("messages.send", Fault())


class TestGmailAccountSends(MailerContract):
    connector = "gmail"

    @pytest.fixture
    def post(self, server: GmailServer) -> ServedPost:
        return ServedPost(server)

    @pytest.fixture
    def mailer(self, server: GmailServer, tmp_path: Path) -> GmailAccount:
        return account(server, tmp_path / "token")

    def test_a_doubt_is_settled_by_a_search(self, mailer: GmailAccount) -> None:
        assert mailer.settlement("send").doubt is DoubtClass.PROBE


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


class TestGmailAccountTakesIn(MailboxContract):
    connector = "gmail"

    @pytest.fixture
    def letterbox(self, server: GmailServer) -> ServedLetterbox:
        return ServedLetterbox(server.box)

    @pytest.fixture
    def mailbox(self, server: GmailServer, letterbox: ServedLetterbox, tmp_path: Path) -> GmailAccount:
        return account(server, tmp_path / "token", max_size_bytes=letterbox.max_size_bytes)
