"""What every connector that knows what customers bought must do."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

import pytest

from orchestrator.capabilities import OrderRecords, Purchase
from orchestrator.errors import Rejected
from orchestrator.plugins import Connection


class OrderConnection(OrderRecords, Connection, Protocol):
    """The connection under test."""


class OrderRecordsContract:
    """Give the fixtures ``orders`` and ``known``."""

    @pytest.fixture
    def orders(self) -> OrderConnection:
        """The connection under test; the system behind it knows purchases of several customers."""
        raise NotImplementedError("give the fixture orders: the connection under test")

    @pytest.fixture
    def known(self) -> tuple[Purchase, ...]:
        """Everything that one of the customers bought, newest first: on different days, and some of it refunded."""
        raise NotImplementedError("give the fixture known: everything that one customer bought, newest first")

    def test_every_purchase_is_found_and_the_newest_comes_first(
        self, orders: OrderConnection, known: tuple[Purchase, ...]
    ) -> None:
        assert orders.purchases_of(known[0].email) == known

    def test_refunded_purchases_are_found_and_marked(
        self, orders: OrderConnection, known: tuple[Purchase, ...]
    ) -> None:
        assert {purchase.refunded for purchase in orders.purchases_of(known[0].email)} == {True, False}

    @pytest.mark.parametrize("written", [str.upper, str.lower, str.title])
    def test_an_address_is_matched_without_regard_to_case(
        self, orders: OrderConnection, known: tuple[Purchase, ...], written: type[str]
    ) -> None:
        assert orders.purchases_of(written(known[0].email)) == known

    def test_an_unknown_address_has_no_purchases(self, orders: OrderConnection) -> None:
        assert orders.purchases_of("nobody-at-all@example.invalid") == ()

    @pytest.mark.parametrize(
        "address", ["gr\u00f6\u00dfe@b\u00fccher.example", "\u65e5\u672c@example.com", "\U0001f4e6@example.com"]
    )
    def test_an_address_in_any_script_has_no_purchases_of_others(self, orders: OrderConnection, address: str) -> None:
        with suppress(Rejected):
            assert orders.purchases_of(address) == ()

    @pytest.mark.parametrize("pattern", ["%", "*", "_", "' OR '1'='1", ""])
    def test_a_pattern_is_no_address(self, orders: OrderConnection, known: tuple[Purchase, ...], pattern: str) -> None:
        for address in (pattern, pattern + known[0].email[1:]):
            try:
                assert orders.purchases_of(address) == ()
            except Rejected:
                continue

    def test_asking_again_gives_the_same_answer(self, orders: OrderConnection, known: tuple[Purchase, ...]) -> None:
        assert orders.purchases_of(known[0].email) == orders.purchases_of(known[0].email)

    def test_each_purchase_is_found_once(self, orders: OrderConnection, known: tuple[Purchase, ...]) -> None:
        found = orders.purchases_of(known[0].email)
        assert len(set(found)) == len(found)

    def test_printed_purchases_do_not_show_the_customer(
        self, orders: OrderConnection, known: tuple[Purchase, ...]
    ) -> None:
        assert known[0].email not in repr(orders.purchases_of(known[0].email))

    def test_a_check_says_in_one_line_what_it_saw(self, orders: OrderConnection, known: tuple[Purchase, ...]) -> None:
        seen = orders.check()
        assert len(seen.splitlines()) == 1
        assert known[0].email.casefold() not in seen.casefold()
