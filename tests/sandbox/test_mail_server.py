"""The sandbox's mail provider: what goes in by SMTP comes out by IMAP, byte for byte."""

from __future__ import annotations

import imaplib
import smtplib
import socket
import threading
from collections.abc import Iterator
from time import perf_counter

import pytest

from orchestrator.sandbox.mail_server import MailServer

SHOP, ANN = "support@shop.example", "ann@example.com"
PASSWORDS = {SHOP: "shop", ANN: "änn"}
RAW = b"From: x@y.example\r\nSubject: hello\r\n\r\n.\r\n..two\r\n\xff\xfe caf\xe9\r\n"


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer(PASSWORDS) as running:
        yield running


def submit(server: MailServer, raw: bytes, *, sender: str, recipients: list[str], login: str = "") -> None:
    with smtplib.SMTP("127.0.0.1", server.smtp_port, local_hostname="test") as client:
        if login:
            client.login(login, PASSWORDS[login])
        client.sendmail(sender, recipients, raw)


def mails(server: MailServer, address: str, folder: str = "INBOX") -> list[bytes]:
    with imaplib.IMAP4("127.0.0.1", server.imap_port) as client:
        client.authenticate("PLAIN", lambda _: f"\0{address}\0{PASSWORDS[address]}".encode())
        client.select(folder, readonly=True)
        _, found = client.fetch("1:*", "(BODY.PEEK[])")
        return [part[1] for part in found if isinstance(part, tuple)]


def test_a_mail_is_delivered_byte_for_byte(server: MailServer) -> None:
    submit(server, RAW, sender="stranger@elsewhere.example", recipients=[ANN, SHOP])
    assert mails(server, ANN) == mails(server, SHOP) == [RAW]
    assert mails(server, ANN, "Sent") == mails(server, SHOP, "Sent") == []


@pytest.mark.parametrize(
    "raw",
    [
        b"Subject: no blank line\r\n",
        b"\r\nonly a body\r\n",
        b"Content-Type: text/plain; charset=unheard-of\r\nSubject: =?x?q?=ZZ?=\r\n\r\nhi\r\n",
        b'Content-Type: multipart/mixed; boundary="b\r\n\r\n--b\r\n--b--\r\n--b\r\n',
        b"From: <<>>,@,(\r\nMessage-ID: <\r\nReferences: <<a@\r\nDate: never\r\n\r\n\x00\r\n",
    ],
)
def test_a_broken_mail_is_delivered_byte_for_byte(server: MailServer, raw: bytes) -> None:
    submit(server, raw, sender="stranger@elsewhere.example", recipients=[ANN])
    assert mails(server, ANN) == [raw]


def test_what_an_account_sends_is_filed_in_its_sent_folder(server: MailServer) -> None:
    submit(server, RAW, sender=SHOP.upper(), recipients=[ANN.upper()])
    assert mails(server, SHOP, "Sent") == mails(server, ANN) == [RAW]


def test_an_unknown_recipient_is_refused_and_gets_nothing(server: MailServer) -> None:
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        submit(server, RAW, sender=SHOP, recipients=["nobody@example.com"])
    assert caught.value.recipients["nobody@example.com"][0] == 550
    assert mails(server, SHOP, "Sent") == []


def test_a_required_login_opens_the_door_and_names_the_sender() -> None:
    with MailServer(PASSWORDS, auth_required=True) as server:
        with pytest.raises(smtplib.SMTPSenderRefused) as caught:
            submit(server, RAW, sender=SHOP, recipients=[ANN])
        assert caught.value.smtp_code == 530
        submit(server, RAW, sender="alias@shop.example", recipients=[ANN], login=SHOP)
        assert mails(server, SHOP, "Sent") == mails(server, ANN) == [RAW]


@pytest.mark.parametrize("address", [ANN, "nobody@example.com"])
def test_a_wrong_password_opens_nothing(server: MailServer, address: str) -> None:
    with (
        smtplib.SMTP("127.0.0.1", server.smtp_port, local_hostname="test") as smtp,
        imaplib.IMAP4("127.0.0.1", server.imap_port) as imap,
    ):
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login(address, "wrong")
        with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
            imap.login(address, "wrong")


def test_a_mail_can_be_searched_by_its_message_id(server: MailServer) -> None:
    submit(server, b"Message-ID: <effect-1@shop.example>\r\n\r\nhi\r\n", sender=SHOP, recipients=[ANN])
    with imaplib.IMAP4("127.0.0.1", server.imap_port) as client:
        client.login(SHOP, "shop")
        client.select("Sent", readonly=True)
        assert len(client.uid("SEARCH", "HEADER", "Message-ID", '"<effect-1@shop.example>"')[1][0].split()) == 1
        assert client.uid("SEARCH", "HEADER", "Message-ID", '"<effect-2@shop.example>"')[1] == [b""]


def test_it_stops_while_clients_are_connected() -> None:
    with MailServer(PASSWORDS) as server:
        clients = [socket.create_connection(("127.0.0.1", port)) for port in (server.smtp_port, server.imap_port)]
        assert [client.recv(100)[:4] for client in clients] == [b"220 ", b"* OK"]
    assert [client.recv(100) for client in clients] == [b"", b""]
    for client in clients:
        client.close()
    assert "sandbox-mail" not in {thread.name for thread in threading.enumerate()}


def test_it_starts_and_stops_within_a_second() -> None:
    began = perf_counter()
    with MailServer(PASSWORDS):
        pass
    assert perf_counter() - began < 1
