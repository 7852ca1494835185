"""Released keeps the contract of each capability that it gives, also when the network does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any

import pytest
from orchestrator.capabilities import Asset, Purchase
from orchestrator.plugins import Connector
from orchestrator.plugins.contract import connector_problems
from orchestrator.testing.behind import FakeCards, FakeLetterbox, FakePost, FakeReaders, FakeStore
from orchestrator.testing.contacts import FakeContacts
from orchestrator.testing.contracts.contacts import ContactsContract
from orchestrator.testing.contracts.faults import FaultsContract, MannersContract
from orchestrator.testing.contracts.files import FileLinksContract
from orchestrator.testing.contracts.mail import MailboxContract, MailerContract
from orchestrator.testing.contracts.notices import NotifierContract
from orchestrator.testing.contracts.orders import OrderRecordsContract
from orchestrator.testing.files import FakeFiles
from orchestrator.testing.mail import FakeMailbox, FakeMailer
from orchestrator.testing.notices import FakeNotifier
from orchestrator.testing.orders import FakeOrders

from released_connector import ReleasedConnection, ReleasedSettings, register_connectors
from vendor import Vendor

PRESENT, MISSING = Asset(key="books/the handbook.pdf"), Asset(key="books/none.pdf")
ANN = "ann.berg@example.com"
NOBODY = "nobody@example.com"
MAX_SIZE_BYTES = 4096
ORDERS = tuple(
    Purchase(
        order=f"S-{day}", product="Handbook", asset=PRESENT, email=ANN, bought_on=date(2026, 1, day), refunded=day == 2
    )
    for day in (3, 2, 1)
)


@pytest.fixture
def fake_files() -> FakeFiles:
    return FakeFiles(PRESENT)


@pytest.fixture
def fake_orders() -> FakeOrders:
    return FakeOrders(*ORDERS)


@pytest.fixture
def fake_mailer() -> FakeMailer:
    return FakeMailer(NOBODY)


@pytest.fixture
def fake_mailbox() -> FakeMailbox:
    return FakeMailbox(max_size_bytes=MAX_SIZE_BYTES)


@pytest.fixture
def fake_contacts() -> FakeContacts:
    return FakeContacts(ANN)


@pytest.fixture
def fake_notifier() -> FakeNotifier:
    return FakeNotifier()


@pytest.fixture
def vendor(
    fake_files: FakeFiles,
    fake_orders: FakeOrders,
    fake_mailer: FakeMailer,
    fake_mailbox: FakeMailbox,
    fake_contacts: FakeContacts,
    fake_notifier: FakeNotifier,
) -> Iterator[Vendor]:
    with Vendor(fake_files, fake_orders, fake_mailer, fake_mailbox, fake_contacts, fake_notifier) as vendor:
        yield vendor


def connected(vendor: Vendor, *, token: str = "", timeout_seconds: float = 10) -> ReleasedConnection:
    settings = {"base_url": vendor.url, "token": token or vendor.credential, "timeout_seconds": timeout_seconds}
    return ReleasedConnection(ReleasedSettings.model_validate(settings))


@pytest.fixture
def connection(vendor: Vendor) -> ReleasedConnection:
    return connected(vendor)


class TestFileLinks(FileLinksContract):
    connector = "released"

    @pytest.fixture
    def files(self, connection: ReleasedConnection) -> ReleasedConnection:
        return connection

    @pytest.fixture
    def store(self, fake_files: FakeFiles) -> FakeStore:
        return FakeStore(fake_files, present=PRESENT, missing=MISSING)


class TestOrderRecords(OrderRecordsContract):
    connector = "released"

    @pytest.fixture
    def orders(self, connection: ReleasedConnection) -> ReleasedConnection:
        return connection

    @pytest.fixture
    def known(self) -> tuple[Purchase, ...]:
        return ORDERS


class TestMailer(MailerContract):
    connector = "released"

    @pytest.fixture
    def mailer(self, connection: ReleasedConnection) -> ReleasedConnection:
        return connection

    @pytest.fixture
    def post(self, fake_mailer: FakeMailer) -> FakePost:
        return FakePost(fake_mailer, known=ANN, unknown=NOBODY)


class TestMailbox(MailboxContract):
    connector = "released"

    @pytest.fixture
    def mailbox(self, connection: ReleasedConnection) -> ReleasedConnection:
        return connection

    @pytest.fixture
    def letterbox(self, fake_mailbox: FakeMailbox) -> FakeLetterbox:
        return FakeLetterbox(fake_mailbox, max_size_bytes=MAX_SIZE_BYTES)


class TestContacts(ContactsContract):
    connector = "released"

    @pytest.fixture
    def contacts(self, connection: ReleasedConnection) -> ReleasedConnection:
        return connection

    @pytest.fixture
    def cards(self, fake_contacts: FakeContacts) -> FakeCards:
        return FakeCards(fake_contacts, known=ANN)


class TestNotifier(NotifierContract):
    connector = "released"

    @pytest.fixture
    def notifier(self, connection: ReleasedConnection) -> ReleasedConnection:
        return connection

    @pytest.fixture
    def readers(self, fake_notifier: FakeNotifier) -> FakeReaders:
        return FakeReaders(fake_notifier)


class TestFaults(FaultsContract):
    connector = "released"

    @pytest.fixture
    def faults(self, vendor: Vendor) -> Vendor:
        return vendor

    @pytest.fixture
    def connection(self, vendor: Vendor) -> ReleasedConnection:
        return connected(vendor, timeout_seconds=1)

    @pytest.fixture
    def ask(self, connection: ReleasedConnection) -> Callable[[], object]:
        return connection.check

    @pytest.fixture
    def change(self, connection: ReleasedConnection) -> Callable[[], object]:
        return lambda: connection.link_to(PRESENT, valid_for=timedelta(hours=1))


class TestManners(MannersContract):
    connector = "released"

    @pytest.fixture
    def build(self, vendor: Vendor) -> Callable[[], ReleasedConnection]:
        return lambda: connected(vendor)

    @pytest.fixture
    def secret(self, vendor: Vendor) -> str:
        return vendor.credential

    @pytest.fixture
    def unreachable(self) -> ReleasedConnection:
        with Vendor() as vendor:
            pass
        return connected(vendor)

    @pytest.fixture
    def wrong_credential(self, vendor: Vendor) -> ReleasedConnection:
        return connected(vendor, token="wrong")


class Host:
    """Takes what the plug-in offers, as the orchestrator does."""

    def __init__(self) -> None:
        self.offered: list[Connector[Any]] = []

    def __call__(self, connector: Connector[Any]) -> None:
        self.offered.append(connector)


def test_the_host_takes_it() -> None:
    host = Host()
    register_connectors(host)
    assert [connector_problems(each) for each in host.offered] == [[]]
