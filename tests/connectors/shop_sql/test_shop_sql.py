from __future__ import annotations

import sqlite3
import traceback
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError
from sqlalchemy import text

from orchestrator.capabilities import OrderRecords
from orchestrator.errors import ConfigurationError, NotFound, Rejected
from orchestrator.plugins import Connector
from orchestrator.sandbox import shop
from orchestrator_connectors.shop_sql import _PARAMETER, ShopSqlOrders, ShopSqlSettings, _Row, register_connectors

ROW = {
    "order": "'S-1'",
    "product": "'Dress'",
    "asset": "'a.zip'",
    "email": ":email",
    "bought_on": "'2026-01-31'",
    "refunded": "0",
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> shop.Shop:
    return shop.create_shop(tmp_path_factory.mktemp("a shop") / "shop #1.db")


def connect(database: shop.Shop, **changes: object) -> ShopSqlOrders:
    settings = {"url": database.url, "query": database.query}
    return ShopSqlOrders(ShopSqlSettings.model_validate(settings | changes))


def query_of(columns: dict[str, str]) -> str:
    """Write a query that answers one row of these columns."""
    answered = ", ".join(f'{value} AS "{name}"' for name, value in columns.items())
    return f"SELECT {answered} WHERE :email <> 'nobody'"


def test_an_address_that_the_shop_wrote_in_capitals_is_found(database: shop.Shop) -> None:
    (purchase,) = connect(database).purchases_of(shop.OTHER_CASE)
    assert purchase.email == "Mia.Winter@Example.com"


def test_the_newest_day_comes_first_and_a_day_keeps_the_querys_order(database: shop.Shop) -> None:
    backwards = database.query.replace("placed_at DESC, products.id", "placed_at, products.id DESC")
    purchases = connect(database, query=backwards).purchases_of(shop.THREE_PURCHASES)
    assert [purchase.asset.file_name for purchase in purchases] == [
        "pattern-makers-handbook.pdf",
        "zippers-without-fear (2025).mp4",
        "raglan-sweater.zip",
    ]


def test_the_query_is_given_the_address_case_folded(database: shop.Shop) -> None:
    (purchase,) = connect(database, query=query_of(ROW)).purchases_of("Mia.Winter@Example.COM")
    assert purchase.email == "mia.winter@example.com"


def test_nothing_that_the_query_changes_stays_changed(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    shop.create_shop(path)
    columns = "number AS \"order\", '' || number AS product, 'a.zip' AS asset, email, '2026-01-31' AS bought_on"
    query = f"DELETE FROM orders WHERE email = :email RETURNING {columns}, 0 AS refunded"
    orders = ShopSqlOrders(ShopSqlSettings.model_validate({"url": f"sqlite:///{path}", "query": query}))
    assert len(orders.purchases_of(shop.ONE_PURCHASE)) == 1
    assert len(orders.purchases_of(shop.ONE_PURCHASE)) == 1
    with closing(sqlite3.connect(path)) as seen:
        assert seen.execute("SELECT count(*) FROM orders").fetchone() == (6,)


def test_column_names_are_read_without_regard_to_case(database: shop.Shop) -> None:
    shouted = query_of({name.upper(): value for name, value in ROW.items()})
    assert len(connect(database, query=shouted).purchases_of(shop.ONE_PURCHASE)) == 1


@pytest.mark.parametrize("lacking", [["asset"], ["email", "order", "refunded"]])
def test_a_missing_column_is_named_even_if_nobody_bought_anything(database: shop.Shop, lacking: list[str]) -> None:
    query = query_of({name: value for name, value in ROW.items() if name not in lacking})
    for email in (shop.ONE_PURCHASE, "nobody"):
        with pytest.raises(Rejected, match=f"lacks the columns {', '.join(lacking)}:"):
            connect(database, query=query).purchases_of(email)


def test_a_column_that_comes_twice_is_refused(database: shop.Shop) -> None:
    query = query_of(ROW).replace("SELECT", "SELECT 'other@example.com' AS email,")
    with pytest.raises(Rejected, match="email more than once"):
        connect(database, query=query).purchases_of(shop.ONE_PURCHASE)


def test_a_statement_without_rows_is_refused(database: shop.Shop) -> None:
    with pytest.raises(Rejected, match="write a SELECT"):
        connect(database, url="sqlite://", query="CREATE TEMP TABLE x AS SELECT :email").purchases_of("a@example.com")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("order", "NULL"),
        ("order", "'   '"),
        ("product", "NULL"),
        ("product", "x'00ff'"),
        ("asset", "NULL"),
        ("asset", "'../s3cret'"),
        ("asset", "'s3cret?'"),
        ("email", "NULL"),
        ("email", "17"),
        ("name", "x'00ff'"),
        ("bought_on", "NULL"),
        ("bought_on", "'s3cret'"),
        ("bought_on", "'31.01.2026 s3cret'"),
        ("bought_on", "1769817600"),
        ("refunded", "NULL"),
        ("refunded", "2"),
        ("refunded", "'s3cret'"),
    ],
)
def test_a_row_that_cannot_be_understood_is_told_by_its_column_alone(
    database: shop.Shop, column: str, value: str
) -> None:
    with pytest.raises(Rejected, match=f"row 1, column '{column}'") as caught:
        connect(database, query=query_of(ROW | {column: value})).purchases_of(shop.ONE_PURCHASE)
    printed = "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in printed
    assert shop.ONE_PURCHASE not in printed


def test_an_order_of_another_address_is_never_believed(database: shop.Shop) -> None:
    careless = database.query.replace("= :email", "LIKE :email")
    with pytest.raises(Rejected, match="row 1, column 'email' is another address"):
        connect(database, query=careless).purchases_of("_nna.berg@example.com")


@pytest.mark.parametrize(
    ("changes", "value"),
    [
        ({"order": 1041}, "1041"),
        ({"order": Decimal(1041)}, "1041"),
        ({"order": UUID(int=7)}, "00000000-0000-0000-0000-000000000007"),
        ({"order": " S-1 "}, "S-1"),
    ],
)
def test_an_order_may_be_named_by_a_number(changes: dict[str, object], value: str) -> None:
    assert _Row.model_validate(row(**changes)).purchase().order == value


@pytest.mark.parametrize(
    "bought_on",
    [
        date(2026, 1, 31),
        datetime(2026, 1, 31, 23, 59, tzinfo=UTC),
        datetime(2026, 1, 31, 23, 59, tzinfo=UTC).replace(tzinfo=None),
        "2026-01-31",
        "2026-01-31 23:59:59",
        "2026-01-31T23:59:59.123456",
        "2026-01-31T23:59:59+02:00",
        "20260131",
    ],
)
def test_a_day_may_come_as_date_time_or_text(bought_on: object) -> None:
    assert _Row.model_validate(row(bought_on=bought_on)).purchase().bought_on == date(2026, 1, 31)


@pytest.mark.parametrize(("refunded", "value"), [(0, False), (1, True), (False, False), (Decimal(1), True)])
def test_a_refund_may_come_as_number_or_truth(refunded: object, *, value: bool) -> None:
    assert _Row.model_validate(row(refunded=refunded)).purchase().refunded is value


def row(**changes: object) -> dict[str, object]:
    usual = {"order": "S-1", "product": "Dress", "asset": "a.zip ", "email": "a@example.com", "refunded": 0}
    return usual | {"bought_on": "2026-01-31", "name": None} | changes


def test_an_order_may_lack_a_name() -> None:
    assert _Row.model_validate(row()).purchase().name == ""


@pytest.mark.parametrize(
    ("query", "remedy"),
    [
        ("SELECT 1", "no parameter :email"),
        ("SELECT 1 -- :email", "no parameter :email"),
        ("SELECT ':email'", "no parameter :email"),
        ("SELECT :emails", "no parameter :email"),
        ("SELECT 1::email", "no parameter :email"),
        ("SELECT :email, :shop, :year", "nobody gives: :shop, :year;"),
        ("SELECT :email, ' :x'", r"nobody gives: :x; .* write \\:"),
        ("SELECT :email /* :email */", "nobody gives: :email;"),
        ("SELECT :email; SELECT 2", "more than one statement"),
        ("SELECT :email; -- and then\nDROP TABLE orders", "more than one statement"),
    ],
)
def test_a_query_that_does_not_ask_for_one_customer_is_refused(query: str, remedy: str) -> None:
    with pytest.raises(ValidationError, match=remedy):
        ShopSqlSettings.model_validate({"url": "sqlite://", "query": query})


@pytest.mark.parametrize(
    "query",
    [
        "SELECT :email;\n",
        "SELECT :email; -- the end; really",
        "SELECT :email /* ; */, ';', \";\", `;`, $$;$$, $q$;$q$, 'it''s;'",
        "SELECT x::date, '12:30', a[1:2], '\\:x' FROM t WHERE e = :email OR f = :email",
    ],
)
def test_a_query_that_asks_for_one_customer_is_taken_as_it_is(query: str) -> None:
    assert ShopSqlSettings.model_validate({"url": "sqlite://", "query": query}).query == query
    assert set(_PARAMETER.findall(query)) == set(text(query).compile().params)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"url": "s3cret"}, "write a SQLAlchemy URL"),
        ({"url": None}, "url"),
        ({"timeout_seconds": -1}, "timeout_seconds"),
        ({"quary": "x"}, "quary"),
    ],
)
def test_wrong_settings_are_refused_by_name_and_never_shown(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError, match=named) as caught:
        ShopSqlSettings.model_validate({"url": "sqlite://", "query": "SELECT :email"} | changes)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["nosuchbase://user:s3cret@host/shop", "postgresql+nosuchdriver://user:s3cret@host/shop"]
)
def test_a_driver_that_cannot_be_loaded_is_named(url: str) -> None:
    with pytest.raises(ConfigurationError, match="install its driver") as caught:
        ShopSqlOrders(ShopSqlSettings.model_validate({"url": url, "query": "SELECT :email"}))
    assert "s3cret" not in str(caught.value)


def test_a_check_sees_the_known_customer(database: shop.Shop) -> None:
    assert connect(database).check().endswith("a known purchase is looked for as well")
    known = connect(database, known_email="Tom.Okafor@example.org")
    assert known.check().endswith("purchases of the known customer: 3")


def test_a_check_fails_without_the_known_customer(database: shop.Shop) -> None:
    with pytest.raises(NotFound, match="known_email"):
        connect(database, known_email="nobody@example.com").check()


def test_the_plug_in_offers_the_connector() -> None:
    offered: list[Connector[Any]] = []

    def register(connector: Connector[Any]) -> None:
        offered.append(connector)

    register_connectors(register)
    assert offered == [
        Connector(name="shop-sql", provides=(OrderRecords,), settings=ShopSqlSettings, build=ShopSqlOrders)
    ]
