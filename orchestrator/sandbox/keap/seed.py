"""The sandbox's customers and orders, as they lie in a Keap account."""

from __future__ import annotations

from pathlib import PurePosixPath

from orchestrator.sandbox.keap.crm import Crm, Sold
from orchestrator.sandbox.shop import PRODUCTS, ROWS, Product


def sku_of(product: Product) -> str:
    """Return what the account calls a product: ``LINEN-SUMMER-DRESS``."""
    name = PurePosixPath(product.asset).stem.partition(" ")[0]
    return name.upper()


ASSETS = {sku_of(product): product.asset for product in PRODUCTS}
"""What a connection to the account says about its products' files."""


def fill(crm: Crm) -> None:
    """Put in the same customers and orders as the shop's database has."""
    products = {
        place: Sold(id=str(100 + place), name=product.title, sku=sku_of(product))
        for place, product in enumerate(PRODUCTS, start=1)
    }
    contacts = {}
    for customer, name, account in ROWS["customers"]:
        given_name, _, family_name = name.partition(" ")
        ordered = [row[2] for row in ROWS["orders"] if row[1] == customer]
        emails = dict.fromkeys([*ordered, account])
        contacts[customer] = crm.add_contact(*emails, given_name=given_name, family_name=family_name)
    for number, customer, _email, placed_at, refunded_at in ROWS["orders"]:
        bought = [products[product] for order, product in ROWS["items"] if order == number]
        crm.add_order(
            contacts[customer],
            *bought,
            at=f"{placed_at.replace(' ', 'T')}Z",
            refunded=1000 * len(bought) if refunded_at else 0,
            order_id=number.removeprefix("S-"),
        )
