"""Sending by SMTP ends in time, and nothing arrives after its end."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic

import pytest

from orchestrator.capabilities import OutgoingMail
from orchestrator.errors import ConnectorError, Unavailable
from orchestrator.sandbox.mail_server import MailServer
from orchestrator.testing.faults import FaultProxy
from orchestrator.toolkit.deadline import call_limited
from orchestrator_connectors.mail.deadline import Deadline
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


@dataclass
class Stalled:
    """A server that answers until DATA, and then reads nothing more until it may go on."""

    port: int
    asked: threading.Event = field(default_factory=threading.Event)
    """It was asked for DATA; it has not answered yet."""
    go_on: threading.Event = field(default_factory=threading.Event)
    received: list[bytes] = field(default_factory=list)
    """What came behind its answer to DATA."""

    def serve(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as lines:
            connection.sendall(b"220 ready\r\n")
            for answer in (b"250 hello\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
                lines.readline()
                if answer.startswith(b"354"):
                    self.asked.set()
                connection.sendall(answer)
            self.go_on.wait(timeout=10)
            with suppress(ConnectionResetError):
                while chunk := lines.read1(65536):
                    self.received.append(chunk)


@contextmanager
def stalling(receive_buffer: int = 65536) -> Iterator[Stalled]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        stalled = Stalled(listener.getsockname()[1])
        thread = threading.Thread(target=stalled.serve, args=[listener])
        thread.start()
        try:
            yield stalled
        finally:
            stalled.go_on.set()
            thread.join()


def test_the_end_of_a_mail_is_not_sent_once_the_time_is_over() -> None:
    """The sender stood still while the server answered, and no other thread was quick enough to stop it."""
    with stalling() as server:
        server.go_on.set()
        with call_limited(lambda: 0 if server.asked.is_set() else 60):
            failed = failure(server.port)
    assert (type(failed), failed.no_effect) == (Unavailable, True)
    assert b"Here is your link." in b"".join(server.received)
    assert END_OF_MAIL not in b"".join(server.received)


def test_a_mail_that_we_gave_up_cannot_arrive_later() -> None:
    mail = MAIL.model_copy(update={"text": "x" * 300_000})
    with stalling(receive_buffer=4096) as server:
        failed = failure(server.port, mail=mail, timeout_seconds=0.4)
        server.go_on.set()
    assert (type(failed), failed.no_effect) == (Unavailable, True)
    assert END_OF_MAIL not in b"".join(server.received)


SENDER = """
import _thread
import sys
from orchestrator_connectors.mail.settings import MailSettings
from orchestrator_connectors.mail.smtp import SmtpMailer
from orchestrator.capabilities import OutgoingMail

def report(event, arguments):
    if event == "smtplib.send" and len(arguments[1]) > 300_000:
        # Another thread gets its turn when this one has begun to send.
        _thread.start_new_thread(lambda: print("sending the mail", flush=True), ())

sys.addaudithook(report)
smtp = {"host": "127.0.0.1", "port": int(sys.argv[1]), "security": "plain"}
mailer = SmtpMailer(MailSettings(address="support@shop.example", smtp=smtp, timeout_seconds=20))
mailer.send(OutgoingMail(to="ann@example.com", subject="s", text="x" * 300_000))
"""


def test_a_mail_cannot_arrive_after_its_sender_was_killed() -> None:
    with stalling(receive_buffer=4096) as server:
        command = [sys.executable, "-c", SENDER, str(server.port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sender:
            assert sender.stdout is not None
            assert sender.stdout.readline() == "sending the mail\n"
            sender.kill()
        server.go_on.set()
    assert END_OF_MAIL not in b"".join(server.received)


def test_a_mail_that_the_server_does_not_read_in_time_has_no_effect() -> None:
    with stalling(receive_buffer=4096) as server:
        failed = failure(server.port, mail=LARGE, timeout_seconds=1)
    assert (type(failed), failed.no_effect) == (Unavailable, True)
    assert END_OF_MAIL not in b"".join(server.received)


def test_what_a_server_does_not_take_in_time_is_dropped_even_if_nobody_wakes_up() -> None:
    """The alarm that closes connections comes much later than the end, as if this process stood still."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        call_limited(lambda: 0.5),
        Deadline(60) as deadline,
        deadline.connect("127.0.0.1", listener.getsockname()[1]) as connection,
    ):
        connection.setblocking(False)
        sent = 0
        with suppress(BlockingIOError):
            while True:
                sent += connection.send(b"x" * 65536)
        dropped = select.poll()
        dropped.register(connection, select.POLLERR)
        assert dropped.poll(10_000), "the system never gave up"
        reader, _ = listener.accept()
        with reader, suppress(ConnectionResetError):
            while chunk := reader.recv(65536):
                sent -= len(chunk)
    assert sent > 0


def test_the_end_gets_no_more_time_than_is_left() -> None:
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is None:
        pytest.skip("this system cannot drop unsent data by itself")
    left = [60.0]
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        call_limited(lambda: left[-1]),
        Deadline(30) as deadline,
        deadline.connect("127.0.0.1", listener.getsockname()[1]) as connection,
    ):
        left.append(0.25)
        deadline.admit_end(connection)
        assert 0 < connection.getsockopt(socket.IPPROTO_TCP, option) <= 250
        left.append(0)
        with pytest.raises(TimeoutError):
            deadline.admit_end(connection)
