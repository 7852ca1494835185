"""An application whose systems are fakes, with a record in which something waits for a person."""

from __future__ import annotations

from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from orchestrator.bootstrap import Application
from orchestrator.capabilities import Asset, FileLinks, Mailbox, Mailer, Notifier, OrderRecords, Purchase
from orchestrator.errors import RunError, Unavailable
from orchestrator.plugins import Connector, DoubtClass, Settlement
from orchestrator.plugins.host import PluginHost
from orchestrator.record.clock import Clock, utc_now
from orchestrator.testing.files import FakeFiles
from orchestrator.testing.mail import FakeMailbox, FakeMailer
from orchestrator.testing.notices import FakeNotifier
from orchestrator.testing.orders import FakeOrders
from tests.support.configurations import load
from tests.support.plugins import offering

ANNA, STRANGER = "anna.berg@example.com", "stranger@example.com"
DRESS = Asset(key="patterns/dress.zip")
CONFIG = """
bindings.order_records = "shop"
bindings.file_links = "files"
bindings.mailer = "outbox"
bindings.notifier = "chat"

[store]
url = "sqlite:///{folder}/record.db"
key_file = "{folder}/keys/kek"

[prefect]
api_url = "http://127.0.0.1:9/api"

[connections]
shop.connector = "fake-orders"
files.connector = "fake-files"
archive.connector = "fake-archive"
outbox.connector = "fake-mailer"
support.connector = "fake-mailbox"
chat.connector = "fake-notifier"

[alarms]
process = "alarm"

[mailboxes.support]
connection = "support"
process = "support-inbox"
from_beginning = true
"""


class Nothing(BaseModel, frozen=True, extra="forbid"):
    """A connection without settings."""


class Untraceable(FakeMailer):
    """Sends mail that nobody can look up afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.settlements = {"send": Settlement(doubt=DoubtClass.NONE)}


class Archive(FakeFiles):
    """Another store with the same files."""


class Office:
    """The application and the systems behind it.

    Args:
        folder: Where record and configuration lie.
        config: The configuration; without one, ``CONFIG``.
        mailbox: Where mail comes in.
        clock: Tells the time.
    """

    def __init__(
        self, folder: Path, config: str = CONFIG, *, mailbox: FakeMailbox | None = None, clock: Clock = utc_now
    ) -> None:
        bought = Purchase(order="S-1", product="Linen dress", asset=DRESS, email=ANNA, bought_on=date(2026, 1, 1))
        self.orders = FakeOrders(bought)
        self.files = FakeFiles(DRESS)
        self.archive = Archive(DRESS)
        self.mailer = Untraceable()
        self.mailbox = mailbox or FakeMailbox()
        self.notifier = FakeNotifier()
        plugins = PluginHost(modules=["flows"], extra={"fakes": self._plugin()})
        self.app = Application(load(folder, config.format(folder=folder)), plugins=plugins, clock=clock)

    def serve(self, email: str) -> str:
        """Execute lost-download as far as it gets; return the run."""
        definition = self.app.definition("lost-download")
        run_id = self.app.open_run(definition, definition.request.model_validate({"email": email}))
        self.execute(run_id)
        return run_id

    def execute(self, run_id: str) -> None:
        """Execute a run of lost-download as far as it gets."""
        with suppress(RunError):
            self.app.kernel.execute(self.app.definition("lost-download"), run_id)

    def ask(self) -> tuple[str, str]:
        """Let a run ask a person; return run and question."""
        run_id = self.serve(STRANGER)
        return run_id, next(each.question_id for each in self.app.people.open_questions() if each.run_id == run_id)

    def doubt(self) -> str:
        """Let a mail go out whose answer is lost; return the run."""
        self.mailer.fail_next(Unavailable("the connection was lost"), after_acting=True)
        return self.serve(ANNA)

    def receive(self, subject: str) -> str:
        """Let a mail come in and be triaged; return the delivery."""
        self.mailbox.deliver(f"From: {STRANGER}\r\nSubject: {subject}\r\n\r\nHow are you?\r\n".encode())
        self.app.intake.take_in(self.app.sources()[0])
        (run_id,) = self.app.runs.due(limit=10)
        self.app.kernel.execute(self.app.definition("support-inbox"), run_id)
        return self.app.inbox.listed(limit=1)[0].delivery

    def _plugin(self) -> Any:
        return offering(
            _connector("fake-orders", OrderRecords, self.orders),
            _connector("fake-files", FileLinks, self.files),
            _connector("fake-archive", FileLinks, self.archive),
            _connector("fake-mailer", Mailer, self.mailer),
            _connector("fake-mailbox", Mailbox, self.mailbox),
            _connector("fake-notifier", Notifier, self.notifier),
        )


def _connector(name: str, capability: type, instance: Any) -> Connector[Nothing]:
    return Connector(name=name, provides=(capability,), settings=Nothing, build=lambda _settings: instance)
