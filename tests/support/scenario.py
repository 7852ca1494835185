"""The main job as the configuration joins it, the people who write to it, and what they get."""

from __future__ import annotations

import email
import imaplib
import re
import smtplib
import urllib.request
from contextlib import suppress
from email.message import EmailMessage
from email.policy import default

from orchestrator.bootstrap import Application
from orchestrator.builtin.inbox import Delivery
from orchestrator.errors import RunParked
from orchestrator.kernel.runs import RunState
from orchestrator.sandbox.mail_server import MailServer
from orchestrator.sandbox.shop import ONE_PURCHASE, REFUNDED, THREE_PURCHASES
from orchestrator.sandbox.systems import PASSWORD, SUPPORT

ANNA, TOM, LUCIA = ONE_PURCHASE, THREE_PURCHASES, REFUNDED
NEUTRAL = "We are looking into it"
DRESS, SWEATER = "patterns/linen-summer-dress.zip", "patterns/raglan-sweater.zip"


class Scenario:
    """The application as the configuration joins it, and the people who write to it."""

    def __init__(self, app: Application, post: MailServer) -> None:
        self.app = app
        self._post = post

    def write(self, sender: str, subject: str, text: str = "Thank you!", **headers: str) -> None:
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = sender, SUPPORT, subject
        for name, value in headers.items():
            mail[name.replace("_", "-")] = value
        mail.set_content(text)
        self.write_raw(mail.as_bytes())

    def write_raw(self, raw: bytes) -> None:
        with smtplib.SMTP("127.0.0.1", self._post.smtp_port) as smtp:
            smtp.sendmail("writer@elsewhere.example", SUPPORT, raw)

    def work(self) -> None:
        """Do what the worker does until nothing is due."""
        for source in self.app.sources():
            self.app.intake.take_in(source)
        self.execute_due()

    def execute_due(self) -> None:
        while due := self.app.runs.due(limit=10):
            for run_id in due:
                with self.app.record.store.read() as tx:
                    run = self.app.runs.get(tx, run_id)
                with suppress(RunParked):
                    self.app.kernel.execute(self.app.definition(run.process), run_id)

    def mailbox(self, address: str) -> list[EmailMessage]:
        """Return what lies in a customer's mailbox."""
        return [email.message_from_bytes(raw, policy=default) for raw in self.raw_mailbox(address)]

    def raw_mailbox(self, address: str) -> list[bytes]:
        with imaplib.IMAP4("127.0.0.1", self._post.imap_port) as imap:
            imap.login(address, PASSWORD)
            imap.select("INBOX", readonly=True)
            _, found = imap.fetch("1:*", "(BODY.PEEK[])")
        return [part[1] for part in found if isinstance(part, tuple)]

    def deliveries(self) -> list[Delivery]:
        return sorted(self.app.inbox.listed(limit=100), key=lambda found: found.received_at)

    def states(self) -> list[str]:
        return [found.state.value for found in self.deliveries()]

    def ended(self) -> set[tuple[str, RunState]]:
        return {(run.process, run.state) for run in self.app.runs.listed(limit=100)}


def text_of(mail: EmailMessage) -> str:
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def links_in(mail: EmailMessage) -> list[str]:
    return re.findall(r"http://\S+", text_of(mail))


def download(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())
