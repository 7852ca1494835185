"""A shop's database by the contracts of the kit: orders in SQLite and PostgreSQL, faults and hygiene in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import ClassVar

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from orchestrator.capabilities import Asset, Purchase
from orchestrator.sandbox import shop
from orchestrator.testing.contracts.blind import BlindAccountContract
from orchestrator.testing.contracts.faults import ConnectorHygieneContract, FaultsContract
from orchestrator.testing.contracts.orders import OrderRecordsContract
from orchestrator.testing.faults import FaultProxy
from orchestrator_connectors.shop_sql import ShopSqlOrders, ShopSqlSettings
from tests.support.postgres import PostgresServer, free_port

pytestmark = pytest.mark.postgres

LUCIA = (
    Purchase(
        order="S-1058",
        product="The Pattern Maker's Handbook, e-book",
        asset=Asset(key="books/pattern-makers-handbook.pdf"),
        email="lucia.marin@example.net",
        name="Lucía Marín",
        bought_on=date(2026, 9, 21),
    ),
    Purchase(
        order="S-1012",
        product="Zippers Without Fear, video course",
        asset=Asset(key="courses/zippers-without-fear (2025).mp4"),
        email="lucia.marin@example.net",
        name="Lucía Marín",
        bought_on=date(2026, 5, 11),
        refunded=True,
    ),
)
READER, PASSWORD = "reader", "s3cret-of-the-reader"
ASKED = b"lower(orders.email)"
"""What the query holds, and nothing else that the client sends."""
LOGIN = b"user\0"
"""What the first message of a connection holds (PostgreSQL manual, "StartupMessage")."""
ON_REFUSAL = {500: (ASKED, "XX000"), 502: (LOGIN, "57P03"), 504: (ASKED, "57014")}
"""What stands for a status here: where it is said, and its SQLSTATE: internal error, cannot connect now, cancelled."""


class PostgresShop:
    """The shop in PostgreSQL, and the one who may read it."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._url = make_url(server.new_database())
        self._execute(shop.TABLES)
        with self._connected() as connection:
            for table, rows in shop.ROWS.items():
                values = sql.SQL(", ").join([sql.Placeholder()] * len(rows[0]))
                insert = sql.SQL("INSERT INTO {} VALUES ({})").format(sql.Identifier(table), values)
                connection.cursor().executemany(insert, rows)
        self._execute(f"CREATE ROLE {READER} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}")
        server.demand_password(READER)
        self.admit()

    def admit(self) -> None:
        """Let the reader in."""
        self._execute(f"ALTER ROLE {READER} PASSWORD '{PASSWORD}' CONNECTION LIMIT -1")

    def crowd(self) -> None:
        """Leave no connection to the reader."""
        self._execute(f"ALTER ROLE {READER} CONNECTION LIMIT 0")

    def revoke(self) -> None:
        """Change the password, and end what was begun with the old one."""
        self._execute(f"ALTER ROLE {READER} PASSWORD 'another'")
        self._execute(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{READER}'")

    @contextmanager
    def row_security(self) -> Iterator[None]:
        """Show the reader no order, and refuse nothing."""
        self._execute("ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
        yield
        self._execute("ALTER TABLE orders DISABLE ROW LEVEL SECURITY")

    def connect(self, port: int | None = None, *, password: str = PASSWORD, **changes: object) -> ShopSqlOrders:
        """Connect as the reader, through another port if one is given."""
        url = self._url.set(username=READER, password=password, port=port or self._server.port)
        given = {"url": url.render_as_string(hide_password=False), "query": shop.QUERY}
        return ShopSqlOrders(ShopSqlSettings.model_validate(given | changes))

    def _connected(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self._url.set(drivername="postgresql").render_as_string(hide_password=False))

    def _execute(self, statements: str) -> None:
        with self._connected() as connection:
            connection.execute(statements)


class PostgresFaults:
    """What a database, or the way to it, can do to one query."""

    def __init__(self, database: PostgresShop, network: FaultProxy) -> None:
        self._database = database
        self._network = network

    def refuse(self, status: int, **headers: str) -> None:  # a database has no headers
        if status == 429:
            self._database.crowd()
        else:
            where, state = ON_REFUSAL[status]
            self._network.replace_answer(after=where, by=_error(state))

    def drop(self) -> None:
        self._network.lose_answer(after=ASKED)

    def cut(self) -> None:
        self._network.lose_answer(after=ASKED, passing=20)

    def silence(self) -> None:
        self._network.hold_answer(after=ASKED)

    def drip(self) -> None:
        self._network.trickle_answer(after=ASKED, pause=0.05)

    def garbage(self) -> None:
        self._network.replace_answer(after=ASKED, by=b"<html>")

    def revoke(self) -> None:
        self._database.revoke()


def _error(state: str) -> bytes:
    """Write an error as the server does (PostgreSQL manual, "ErrorResponse")."""
    fields = b"".join(f"{field}\0".encode() for field in ("SFATAL", "VFATAL", f"C{state}", "Mas scripted")) + b"\0"
    return b"E" + (len(fields) + 4).to_bytes(4) + fields


@pytest.fixture(scope="module")
def made(postgres_server: PostgresServer) -> PostgresShop:
    return PostgresShop(postgres_server)


@pytest.fixture
def database(made: PostgresShop) -> PostgresShop:
    made.admit()
    return made


class TestShopSqlOrders(OrderRecordsContract):
    connector = "shop-sql"

    @pytest.fixture
    def orders(self, tmp_path: Path) -> ShopSqlOrders:
        made = shop.create_shop(tmp_path / "shop #1.db")
        return ShopSqlOrders(ShopSqlSettings.model_validate({"url": made.url, "query": made.query}))

    @pytest.fixture
    def known(self) -> tuple[Purchase, ...]:
        return LUCIA


class TestShopSqlOrdersInPostgres(OrderRecordsContract):
    connector = "shop-sql"

    @pytest.fixture
    def orders(self, database: PostgresShop) -> ShopSqlOrders:
        return database.connect()

    @pytest.fixture
    def known(self) -> tuple[Purchase, ...]:
        return LUCIA


class TestShopSqlBlindAccount(BlindAccountContract):
    connector = "shop-sql"

    @pytest.fixture
    def orders(self, database: PostgresShop) -> ShopSqlOrders:
        return database.connect(known_email=shop.ONE_PURCHASE)

    @pytest.fixture
    def blind(self, database: PostgresShop) -> Iterator[ShopSqlOrders]:
        """A user whom row security shows nothing, without an error (PostgreSQL manual, "Row Security Policies")."""
        with database.row_security():
            yield database.connect(known_email=shop.ONE_PURCHASE)


class TestShopSqlFaults(FaultsContract):
    connector = "shop-sql"
    deviations: ClassVar = {
        "test_the_wait_that_the_system_asks_for_is_handed_on": "a database does not say how long to wait for it"
    }

    @pytest.fixture
    def network(self, postgres_server: PostgresServer) -> Iterator[FaultProxy]:
        with FaultProxy("127.0.0.1", postgres_server.port) as proxy:
            yield proxy

    @pytest.fixture
    def faults(self, database: PostgresShop, network: FaultProxy) -> PostgresFaults:
        return PostgresFaults(database, network)

    @pytest.fixture
    def ask(self, database: PostgresShop, network: FaultProxy) -> Callable[[], object]:
        orders = database.connect(network.port, timeout_seconds=3)
        return lambda: orders.purchases_of(shop.ONE_PURCHASE)


class TestShopSqlHygiene(ConnectorHygieneContract):
    connector = "shop-sql"

    @pytest.fixture
    def build(self, database: PostgresShop) -> Callable[[], ShopSqlOrders]:
        return database.connect

    @pytest.fixture
    def secret(self) -> str:
        return PASSWORD

    @pytest.fixture
    def unreachable(self, database: PostgresShop) -> ShopSqlOrders:
        return database.connect(free_port())

    @pytest.fixture
    def wrong_credential(self, database: PostgresShop) -> ShopSqlOrders:
        database.revoke()
        return database.connect()
