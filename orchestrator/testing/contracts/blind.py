"""What every connector that knows what customers bought must do when its account sees nothing."""

from __future__ import annotations

import pytest

from orchestrator.errors import AccessDenied
from orchestrator.testing.contracts.orders import OrderConnection

NOBODY = "nobody-at-all@example.invalid"


class BlindAccountContract:
    """Give the fixtures ``orders`` and ``blind``.

    An account that has lost a right often answers 200 and an empty list: customers would hear that they bought nothing.
    """

    @pytest.fixture
    def orders(self) -> OrderConnection:
        """The connection under test, of an account that sees the orders."""
        raise NotImplementedError("give the fixture orders: the connection of an account that sees the orders")

    @pytest.fixture
    def blind(self) -> OrderConnection:
        """The connection of an account that is answered as if there were no orders."""
        raise NotImplementedError("give the fixture blind: the connection of an account that is shown no orders")

    def test_nothing_is_believed_of_an_account_that_shows_a_known_record(self, orders: OrderConnection) -> None:
        assert orders.purchases_of(NOBODY) == ()

    def test_nothing_is_not_believed_of_an_account_that_shows_no_known_record(self, blind: OrderConnection) -> None:
        for _ in range(2):
            with pytest.raises(AccessDenied) as caught:
                blind.purchases_of(NOBODY)
            assert "@" not in str(caught.value)
