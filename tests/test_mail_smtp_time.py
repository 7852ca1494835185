"""Sending by SMTP ends in time, and nothing arrives after its end."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import pytest

from connectors.mail.settings import MailSettings, SmtpSettings
from connectors.mail.smtp import SmtpMailer
from orchestrator.capabilities import OutgoingMail
from orchestrator.errors import ConnectorError, Unavailable
from orchestrator.sandbox.mail_server import MailServer
from orchestrator.testing.faults import FaultProxy

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


@pytest.mark.parametrize(("moment", "no_effect"), [(b"ehlo", True), (b"DATA\r\n", True), (END_OF_MAIL, False)])
@pytest.mark.parametrize("way", ["trickle", "hold"])
def test_the_total_time_holds_against_a_slow_server(
    proxy: FaultProxy, moment: bytes, no_effect: bool, way: str
) -> None:
    if way == "trickle":
        proxy.trickle_answer(after=moment, pause=0.15)
    else:
        proxy.hold_answer(after=moment)
    began = monotonic()
    failed = failure(proxy.port, timeout_seconds=0.4)
    assert 0.3 < monotonic() - began < 2
    assert (type(failed), failed.no_effect, proxy.pending) == (Unavailable, no_effect, False)


@contextmanager
def stalling(receive_buffer: int) -> Iterator[tuple[int, threading.Event, list[bytes]]]:
    """Serve until DATA, read nothing more until the event, and then everything that still comes."""
    go_on = threading.Event()
    received: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as lines:
            connection.sendall(b"220 ready\r\n")
            for answer in (b"250 hello\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
                lines.readline()
                connection.sendall(answer)
            go_on.wait(timeout=10)
            try:
                while chunk := lines.read1(65536):
                    received.append(chunk)
            except ConnectionResetError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], go_on, received
        finally:
            go_on.set()
            thread.join()


def test_a_mail_that_we_gave_up_cannot_arrive_later() -> None:
    mail = MAIL.model_copy(update={"text": "x" * 300_000})
    with stalling(receive_buffer=4096) as (port, go_on, received):
        failed = failure(port, mail=mail, timeout_seconds=0.4)
        go_on.set()
    assert (type(failed), failed.no_effect) == (Unavailable, False)
    assert END_OF_MAIL not in b"".join(received)


SENDER = """
import _thread
import sys
from connectors.mail.settings import MailSettings
from connectors.mail.smtp import SmtpMailer
from orchestrator.capabilities import OutgoingMail

def tell(event, arguments):
    if event == "smtplib.send" and arguments[1] == b".\\r\\n":
        # Another thread gets its turn when this one has begun to send.
        _thread.start_new_thread(lambda: print("sending the end", flush=True), ())

sys.addaudithook(tell)
smtp = {"host": "127.0.0.1", "port": int(sys.argv[1]), "security": "plain"}
mailer = SmtpMailer(MailSettings(address="support@shop.example", smtp=smtp, timeout_seconds=20))
mailer.send(OutgoingMail(to="ann@example.com", subject="s", text="x" * 300_000))
"""


def test_a_mail_cannot_arrive_after_its_sender_was_killed() -> None:
    with stalling(receive_buffer=4096) as (port, go_on, received):
        command = [sys.executable, "-c", SENDER, str(port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sender:
            assert sender.stdout is not None
            assert sender.stdout.readline() == "sending the end\n"
            sender.kill()
        go_on.set()
    assert END_OF_MAIL not in b"".join(received)


def test_a_mail_that_the_server_does_not_read_in_time_has_no_effect() -> None:
    with stalling(receive_buffer=4096) as (port, _, received):
        failed = failure(port, mail=LARGE, timeout_seconds=1)
    assert (type(failed), failed.no_effect) == (Unavailable, True)
    assert END_OF_MAIL not in b"".join(received)
