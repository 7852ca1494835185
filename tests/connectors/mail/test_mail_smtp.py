"""Sending by SMTP over a network that fails, and when a connection is used again."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from orchestrator.capabilities import OutgoingMail
from orchestrator.errors import AccessDenied, ConnectorError, Rejected, Unavailable
from orchestrator.sandbox.mail_server import MailServer
from orchestrator.testing.faults import FaultProxy
from orchestrator_connectors.mail.settings import MailSettings, SmtpSettings
from orchestrator_connectors.mail.smtp import SmtpMailer

SHOP, ANN = "support@shop.example", "ann@example.com"
MAIL = OutgoingMail(to=ANN, subject="Your download", text="Here is your link.")
LARGE = MAIL.model_copy(update={"text": "Here is your link.\n" + "x" * 8_000_000})  # more than the system buffers
END_OF_MAIL = b"\r\n.\r\n"


def mailer(port: int, *, timeout_seconds: float = 5, **smtp: object) -> SmtpMailer:
    server = SmtpSettings.model_validate({"host": "127.0.0.1", "port": port, "security": "plain"} | smtp)
    return SmtpMailer(MailSettings(address=f"The Shop <{SHOP}>", smtp=server, timeout_seconds=timeout_seconds))


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer({SHOP: "shop", ANN: "ann"}) as running:
        yield running


@pytest.fixture
def proxy(server: MailServer) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", server.smtp_port) as running:
        yield running


def failure(port: int, *, mail: OutgoingMail = MAIL, timeout_seconds: float = 5) -> ConnectorError:
    with pytest.raises(ConnectorError) as caught:
        mailer(port, timeout_seconds=timeout_seconds).send(mail, effect_id="effect-1")
    assert caught.value.__cause__ is not None
    assert "@" not in str(caught.value)
    return caught.value


def test_a_server_that_is_not_there_is_unavailable_without_effect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    failed = failure(port)
    assert (type(failed), failed.no_effect) == (Unavailable, True)


@pytest.mark.parametrize(
    "moment", [b" shop.example\r\n", b":<support@shop.example>", b":<ann@example.com>", b"DATA\r\n"]
)
@pytest.mark.parametrize("passing", [0, 2])
def test_a_connection_lost_before_the_mail_has_no_effect(proxy: FaultProxy, moment: bytes, passing: int) -> None:
    proxy.lose_answer(after=moment, passing=passing)
    failed = failure(proxy.port)
    assert (type(failed), failed.no_effect, proxy.pending) == (Unavailable, True, False)


def test_a_connection_lost_within_the_mail_has_no_effect(proxy: FaultProxy) -> None:
    proxy.lose_request(at=b"your link")
    failed = failure(proxy.port, mail=LARGE)
    assert (type(failed), failed.no_effect, proxy.pending) == (Unavailable, True, False)


@pytest.mark.parametrize("passing", [0, 1, 2])
def test_an_answer_cut_short_is_a_doubt(proxy: FaultProxy, passing: int) -> None:
    proxy.lose_answer(after=END_OF_MAIL, passing=passing)
    failed = failure(proxy.port)
    assert (type(failed), failed.no_effect, proxy.pending) == (Unavailable, False, False)


def test_a_connection_is_kept_for_the_next_mail(proxy: FaultProxy) -> None:
    sender = mailer(proxy.port)
    for number in range(3):
        sender.send(MAIL, effect_id=f"effect-{number}")
    assert proxy.connections == 1


def test_a_kept_connection_that_was_lost_is_replaced(proxy: FaultProxy) -> None:
    sender = mailer(proxy.port)
    sender.send(MAIL, effect_id="effect-1")
    proxy.lose_request(at=b"MAIL FROM")
    sender.send(MAIL, effect_id="effect-2")
    assert (proxy.connections, proxy.pending) == (2, False)


def test_a_connection_is_not_kept_after_a_failure(proxy: FaultProxy) -> None:
    sender = mailer(proxy.port)
    with pytest.raises(Rejected):
        sender.send(MAIL.model_copy(update={"to": "nobody@example.com"}))
    sender.send(MAIL)
    assert proxy.connections == 2


def test_a_check_logs_in_afresh_and_says_what_it_saw(proxy: FaultProxy) -> None:
    sender = mailer(proxy.port, username=SHOP, password="shop")
    sender.send(MAIL)
    assert sender.check() == f"SMTP server 127.0.0.1:{proxy.port} answers and accepts the login"
    assert proxy.connections == 2


def test_mails_may_be_sent_at_the_same_time(proxy: FaultProxy) -> None:
    sender, receipts = mailer(proxy.port), []
    threads = [threading.Thread(target=lambda: receipts.append(sender.send(MAIL))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({receipt.reference for receipt in receipts}) == 8


@pytest.mark.parametrize(("password", "accepted"), [("pässwörd", True), ("wrong", False)])
def test_a_login_may_hold_any_characters(password: str, accepted: bool) -> None:
    with MailServer({SHOP: "pässwörd", ANN: "ann"}, auth_required=True) as server:
        sender = mailer(server.smtp_port, username=SHOP, password=password)
        if accepted:
            assert sender.send(MAIL, effect_id="effect-1").reference == "<effect-1@shop.example>"
        else:
            with pytest.raises(AccessDenied, match=r"correct smtp\.username and smtp\.password"):
                sender.send(MAIL)


def test_a_server_that_asks_for_a_login_needs_one() -> None:
    with MailServer({SHOP: "shop", ANN: "ann"}, auth_required=True) as server:
        assert type(failure(server.smtp_port)) is AccessDenied


def test_an_effect_id_that_cannot_stand_in_a_message_id_is_rejected(server: MailServer) -> None:
    with pytest.raises(Rejected, match="effect id"):
        mailer(server.smtp_port).send(MAIL, effect_id="a b>\r\n")
