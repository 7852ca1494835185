"""Orders, read as purchases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime

from pydantic import BaseModel, Field

from orchestrator.capabilities import Asset, Purchase
from orchestrator.errors import NotFound
from orchestrator_connectors.keap.api import Page, Session
from orchestrator_connectors.keap.cards import Card, cards_of

_NOT_REFUNDED = frozenset({"", "NONE"})


class _Money(BaseModel, hide_input_in_errors=True):
    amount: float | None = None
    """In the smallest unit of the currency."""


class _Buyer(BaseModel, hide_input_in_errors=True):
    email: str | None = None
    given_name: str | None = None
    family_name: str | None = None


class _Product(BaseModel, hide_input_in_errors=True, coerce_numbers_to_str=True):
    id: str | None = None
    name: str | None = None
    sku: str | None = None


class _Item(BaseModel, hide_input_in_errors=True):
    name: str | None = None
    product: _Product | None = None


class _Order(BaseModel, hide_input_in_errors=True, coerce_numbers_to_str=True):
    id: str = Field(min_length=1)
    status: str | None = None
    order_time: datetime | None = None
    creation_time: datetime | None = None
    contact: _Buyer | None = None
    total: _Money | None = None
    total_paid: _Money | None = None
    refund_total: _Money | None = None
    refund_status: str | None = None
    order_items: list[_Item] | None = None

    @property
    def refunded(self) -> bool:
        """Whether money went back, if only a part: Keap does not say for which item."""
        return _amount(self.refund_total) > 0 or (self.refund_status or "").strip().upper() not in _NOT_REFUNDED

    @property
    def paid(self) -> bool:
        """Whether it is a purchase: a quote or an open invoice is an order of Keap's, too."""
        covered = (
            self.total_paid is not None and self.total is not None and _amount(self.total_paid) >= _amount(self.total)
        )
        return (self.status or "").upper() == "PAID" or covered or self.refunded


class _Orders(Page):
    orders: list[_Order] | None = None


def purchases_of(session: Session, address: str, assets: Mapping[str, str]) -> tuple[Purchase, ...]:
    """Return what was bought with that address, the newest first.

    An order of a card that has the address as a second one belongs to its first address, and is left to a person.
    """
    found = [purchase for card in cards_of(session, address) for purchase in _purchases(session, card, address, assets)]
    return tuple(sorted(found, key=lambda purchase: purchase.bought_on, reverse=True))


def _purchases(session: Session, card: Card, address: str, assets: Mapping[str, str]) -> Iterator[Purchase]:
    for order in _orders_of(session, card):
        buyer = order.contact or _Buyer()
        email = (buyer.email or _first_address(card)).strip()
        when = order.order_time or order.creation_time
        if email.casefold() != address or when is None or not order.paid:
            continue
        names = (buyer.given_name or card.given_name, buyer.family_name or card.family_name)
        name = " ".join(part.strip() for part in names if part)
        for title, asset in _downloads(order, assets):
            yield Purchase(
                order=order.id,
                product=title,
                asset=asset,
                email=email,
                name=name,
                bought_on=when.date(),
                refunded=order.refunded,
            )


def _orders_of(session: Session, card: Card) -> Iterator[_Order]:
    wanted = {"filter": f"contact_id=={card.id}", "order_by": "order_time desc"}
    pages = session.pages("/rest/v2/orders", _Orders, wanted)
    for order in (order for page in pages for order in page.orders or ()):
        if order.order_items is not None:
            yield order
            continue
        # A list may leave the items out; the order itself has them, unless somebody deletes it just now.
        with suppress(NotFound):
            yield session.get(f"/rest/v2/orders/{order.id}", _Order, about_one=True)


def _downloads(order: _Order, assets: Mapping[str, str]) -> Iterator[tuple[str, Asset]]:
    """Find the items that have a file. Which one is never taken from a text of the CRM, only from our own list."""
    for item in order.order_items or ():
        product = item.product or _Product()
        key = assets.get(product.id or "") or _by_sku(product, assets)
        title = (item.name or product.name or "").strip()
        if key:
            yield title or product.sku or f"product {product.id}", Asset(key=key)


def _by_sku(product: _Product, assets: Mapping[str, str]) -> str | None:
    sku = (product.sku or "").strip()
    return None if sku.isdecimal() else assets.get(sku)


def _first_address(card: Card) -> str:
    return next((each.email for each in card.email_addresses or () if each.email), "")


def _amount(money: _Money | None) -> float:
    return (money.amount if money else None) or 0
