"""Mails that are sent through a mail account of an application, with a clock that is moved by hand."""

from __future__ import annotations

import imaplib
import json
from contextlib import suppress
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self

from sqlalchemy import delete

from orchestrator.bindings.proofs import LASTS
from orchestrator.bootstrap import Application
from orchestrator.capabilities import Mailer, OutgoingMail
from orchestrator.errors import RunError
from orchestrator.kernel.runs import RunState
from orchestrator.plugins.host import PluginHost
from orchestrator.record.tables import audit_private
from orchestrator.sandbox.mail_server import MailServer
from orchestrator.testing.contracts.mail import read_mail
from orchestrator.worker.alarms import alarms_of
from orchestrator.worker.proving import prove_once
from tests.support.clock import HandClock
from tests.support.configurations import load
from tests.support.kernel_bench import Done, Errand, process

SHOP, ANN = "support@shop.example", "ann@example.com"
END_OF_MAIL = b"\r\n.\r\n"
SETTLE_SECONDS = 30
CONFIG = """
bindings.mailer = "support_mail"
bindings.notifier = "support_mail"
alarms.process = "alarm"

[store]
url = "sqlite:///{folder}/record.db"
key_file = "{folder}/keys/kek"

[connections.support_mail]
connector = "mail"
address = "{shop}"
notices_to = "{owner}"
visibility_delay_seconds = {settle}
timeout_seconds = 5
smtp = {{host = "127.0.0.1", port = {smtp}, security = "plain"}}
imap.host = "127.0.0.1"
imap.port = {imap}
imap.security = "plain"
imap.username = "{shop}"
imap.password = "shop"
imap.sent_folder = "{sent}"
"""


class Numbered(Errand):
    """Which mail to send."""

    number: str


def send_numbered(errand: Numbered, *, mailer: Mailer) -> Done:
    """Send one mail to Ann."""
    mailer.send(OutgoingMail(to=ANN, subject=errand.number, text="Hello"))
    return Done()


SEND = process(send_numbered)


class MailBench:
    """An application that sends mail.

    Args:
        folder: Where its record lies.
        server: The provider.
        smtp_port: Where it sends mail to.
        clock: Tells the time.
        sent: The sent folder that it is told.
    """

    def __init__(
        self, folder: Path, server: MailServer, smtp_port: int, clock: HandClock, *, sent: str = "Sent"
    ) -> None:
        self._server, self._clock = server, clock
        text = CONFIG.format(
            folder=folder,
            shop=SHOP,
            owner=ANN,
            smtp=smtp_port,
            imap=server.imap_port,
            sent=sent,
            settle=SETTLE_SECONDS,
        )
        self.app = Application(load(folder, text), plugins=PluginHost(modules=["flows"]), clock=clock)
        self._runs: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.app.record.store.close()

    def send(self, number: str) -> None:
        """Let a run send a mail, as far as it gets."""
        run_id = self.app.open_run(SEND, Numbered(number=number))
        self._runs[run_id] = number
        self._execute(run_id)

    def pass_time(self) -> None:
        """Let a few minutes pass, in which the worker does its work."""
        for _ in range(3):
            self._clock.advance(minutes=3)
            self.prove()
            for run_id in self.app.runs.due(limit=1000):
                self._execute(run_id)

    def prove(self) -> None:
        """Let the worker prove the account's probes."""
        prove_once(self.app, Event())

    def tell(self) -> None:
        """Let the worker tell people what is new."""
        self._clock.advance(minutes=1)
        if run_id := alarms_of(self.app).notify():
            self.app.kernel.execute(self.app.definition("alarm"), run_id)

    def let_a_proof_age(self) -> None:
        """Let so much time pass that a proof is renewed by the next mail."""
        self._clock.now += LASTS

    def section(self) -> bytes:
        """Return the account's settings as they are compared."""
        return json.dumps(self.app.connections.section_of("support_mail"), sort_keys=True).encode()

    def erase(self, number: str) -> None:
        """Let the private values of a run be erased."""
        run_id = next(run_id for run_id, mine in self._runs.items() if mine == number)
        with self.app.record.store.write() as tx:
            events = [event.event_id for event in self.app.record.trail.chain(tx, run_id)]
            tx.execute(delete(audit_private).where(audit_private.c.event_id.in_(events)))

    def arrived(self) -> list[str]:
        """Return the subjects of all mails in Ann's mailbox."""
        with imaplib.IMAP4("127.0.0.1", self._server.imap_port) as imap:
            imap.login(ANN, "ann")
            imap.select("INBOX", readonly=True)
            _, parts = imap.fetch("1:*", "(BODY.PEEK[])")
        return [read_mail(part[1]).subject for part in parts if isinstance(part, tuple)]

    def parked(self) -> set[str]:
        """Return which mails wait for a person."""
        return {self._runs[run.run_id] for run in self.app.runs.listed(state=RunState.PARKED, limit=10_000)}

    def _execute(self, run_id: str) -> None:
        with suppress(RunError):
            self.app.kernel.execute(SEND, run_id)
