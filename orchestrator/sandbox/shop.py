"""A small shop's database: sewing patterns and courses, sold as downloads."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL


@dataclass(frozen=True, kw_only=True)
class Product:
    """What is sold, and the file that the customer gets."""

    title: str
    asset: str
    megabytes: int


PRODUCTS = (
    Product(title="Linen Summer Dress, sewing pattern", asset="patterns/linen-summer-dress.zip", megabytes=2),
    Product(title="Raglan Sweater, sewing pattern", asset="patterns/raglan-sweater.zip", megabytes=1),
    Product(title="Zippers Without Fear, video course", asset="courses/zippers-without-fear (2025).mp4", megabytes=5),
    Product(title="The Pattern Maker's Handbook, e-book", asset="books/pattern-makers-handbook.pdf", megabytes=3),
)

ONE_PURCHASE = "anna.berg@example.com"
"""Bought one thing."""
THREE_PURCHASES = "tom.okafor@example.org"
"""Bought three things on two orders."""
REFUNDED = "lucia.marin@example.net"
"""Bought two things, and got the money back for the older one."""
OTHER_CASE = "mia.winter@example.com"
"""Writes like this; her order says ``Mia.Winter@Example.com``, and her account is at another address."""

QUERY = """\
SELECT orders.number AS "order", products.title AS product, products.file AS asset, orders.email AS email,
       customers.name AS name, orders.placed_at AS bought_on, orders.refunded_at IS NOT NULL AS refunded
FROM orders
JOIN customers ON customers.id = orders.customer
JOIN items ON items.order_number = orders.number
JOIN products ON products.id = items.product
WHERE lower(orders.email) = :email
ORDER BY orders.placed_at DESC, products.id
"""
"""What the connector ``shop-sql`` asks this shop."""

TABLES = """
CREATE TABLE IF NOT EXISTS customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS products (id INTEGER PRIMARY KEY, title TEXT NOT NULL, file TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS orders (
    number TEXT PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customers, email TEXT NOT NULL,
    placed_at TEXT NOT NULL, refunded_at TEXT
);
CREATE TABLE IF NOT EXISTS items (
    order_number TEXT NOT NULL REFERENCES orders, product INTEGER NOT NULL REFERENCES products,
    PRIMARY KEY (order_number, product)
);
"""

ROWS: dict[str, list[tuple[Any, ...]]] = {
    "customers": [
        (1, "Anna Berg", ONE_PURCHASE),
        (2, "Tom Okafor", THREE_PURCHASES),
        (3, "Lucía Marín", REFUNDED),
        (4, "Mia Winter", "mia@winter-studio.example"),
    ],
    "products": [(place, each.title, each.asset) for place, each in enumerate(PRODUCTS, start=1)],
    "orders": [
        ("S-1041", 1, ONE_PURCHASE, "2026-08-14 19:20:05", None),
        ("S-1007", 2, THREE_PURCHASES, "2026-05-02 08:11:47", None),
        ("S-1063", 2, THREE_PURCHASES, "2026-09-30 21:45:10", None),
        ("S-1012", 3, REFUNDED, "2026-05-11 12:00:33", "2026-05-13 09:30:00"),
        ("S-1058", 3, REFUNDED, "2026-09-21 16:02:58", None),
        ("S-1049", 4, "Mia.Winter@Example.com", "2026-09-01 07:05:12", None),
    ],
    "items": [
        ("S-1041", 1),
        ("S-1007", 2),
        ("S-1063", 3),
        ("S-1063", 4),
        ("S-1012", 3),
        ("S-1058", 4),
        ("S-1049", 1),
    ],
}

"""What lies in each table."""


@dataclass(frozen=True, kw_only=True)
class Shop:
    """What the settings of ``shop-sql`` need: the database, for reading only, and the query."""

    url: str
    query: str


def create_shop(path: Path) -> Shop:
    """Make the shop's database, or fill up what is missing in the one that is there."""
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(TABLES)
        for table, rows in ROWS.items():
            for row in rows:
                database.execute(f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(row))})", row)
    file = f"file:{quote(str(path.absolute()))}"
    url = URL.create("sqlite", database=file, query={"mode": "ro", "uri": "true"})
    return Shop(url=url.render_as_string(), query=QUERY)
