"""Keap by the contracts of the kit: orders, contacts, faults and hygiene."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date

import pytest

from orchestrator.capabilities import Asset, Purchase
from orchestrator.sandbox.keap import KeapServer
from orchestrator.testing.contracts.blind import BlindAccountContract
from orchestrator.testing.contracts.contacts import ContactsContract
from orchestrator.testing.contracts.faults import ConnectorHygieneContract, FaultsContract
from orchestrator.testing.contracts.orders import OrderRecordsContract
from orchestrator_connectors.keap import KeapAccount
from tests.support.keap_account import ANNA, Cards, account, connect

LUCIA = (
    Purchase(
        order="1058",
        product="The Pattern Maker's Handbook, e-book",
        asset=Asset(key="books/pattern-makers-handbook.pdf"),
        email="lucia.marin@example.net",
        name="Lucía Marín",
        bought_on=date(2026, 9, 21),
    ),
    Purchase(
        order="1012",
        product="Zippers Without Fear, video course",
        asset=Asset(key="courses/zippers-without-fear (2025).mp4"),
        email="lucia.marin@example.net",
        name="Lucía Marín",
        bought_on=date(2026, 5, 11),
        refunded=True,
    ),
)


@pytest.fixture
def keap() -> Iterator[KeapServer]:
    with account() as server:
        yield server


class TestKeapOrders(OrderRecordsContract):
    connector = "keap"

    @pytest.fixture
    def orders(self, keap: KeapServer) -> KeapAccount:
        return connect(keap)

    @pytest.fixture
    def known(self) -> tuple[Purchase, ...]:
        return LUCIA


class TestKeapOrdersPageByPage(OrderRecordsContract):
    connector = "keap"

    @pytest.fixture
    def orders(self, keap: KeapServer) -> KeapAccount:
        keap.crm.largest_page = 1
        return connect(keap)

    @pytest.fixture
    def known(self) -> tuple[Purchase, ...]:
        return LUCIA


class TestKeapBlindAccount(BlindAccountContract):
    connector = "keap"

    @pytest.fixture
    def orders(self, keap: KeapServer) -> KeapAccount:
        return connect(keap)

    @pytest.fixture
    def blind(self, keap: KeapServer) -> KeapAccount:
        keap.crm.orders.clear()
        return connect(keap)


class TestKeapContacts(ContactsContract):
    connector = "keap"

    @pytest.fixture
    def contacts(self, keap: KeapServer) -> KeapAccount:
        return connect(keap)

    @pytest.fixture
    def cards(self, keap: KeapServer) -> Cards:
        return Cards(keap)


class TestKeapFaults(FaultsContract):
    connector = "keap"

    @pytest.fixture
    def faults(self, keap: KeapServer) -> KeapServer:
        return keap

    @pytest.fixture
    def crm(self, keap: KeapServer) -> KeapAccount:
        return connect(keap, timeout_seconds=3)

    @pytest.fixture
    def ask(self, crm: KeapAccount) -> Callable[[], object]:
        return lambda: crm.purchases_of(ANNA)

    @pytest.fixture
    def change(self, crm: KeapAccount, keap: KeapServer) -> Callable[[], object]:
        keap.faulty = "POST"
        return lambda: crm.note(ANNA, "A fresh link was sent.", effect_id="e-1")


class TestKeapHygiene(ConnectorHygieneContract):
    connector = "keap"

    @pytest.fixture
    def build(self, keap: KeapServer) -> Callable[[], KeapAccount]:
        return lambda: connect(keap)

    @pytest.fixture
    def secret(self, keap: KeapServer) -> str:
        return keap.gate.api_key

    @pytest.fixture
    def unreachable(self) -> KeapAccount:
        with account() as keap:
            return connect(keap)

    @pytest.fixture
    def wrong_credential(self, keap: KeapServer, secret: str) -> KeapAccount:
        keap.gate.api_key = "another"
        return connect(keap, api_key=secret)
