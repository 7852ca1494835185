from __future__ import annotations

import logging
import zlib
from pathlib import Path

import pytest

from orchestrator.sandbox import shop
from orchestrator.sandbox.object_store import ObjectStore, content_of
from orchestrator_connectors.s3 import S3Files, S3Settings
from orchestrator_connectors.shop_sql import ShopSqlOrders, ShopSqlSettings


def connect(made: shop.Shop) -> ShopSqlOrders:
    return ShopSqlOrders(ShopSqlSettings.model_validate({"url": made.url, "query": made.query}))


def test_the_shop_holds_what_its_customers_are_named_for(tmp_path: Path) -> None:
    orders = connect(shop.create_shop(tmp_path / "shop.db"))
    bought = {
        email: [purchase.refunded for purchase in orders.purchases_of(email)]
        for email in (shop.ONE_PURCHASE, shop.THREE_PURCHASES, shop.REFUNDED, shop.OTHER_CASE)
    }
    assert list(bought.values()) == [[False], [False, False, False], [False, True], [False]]
    (others,) = orders.purchases_of(shop.OTHER_CASE)
    assert others.email != shop.OTHER_CASE


def test_making_the_shop_again_changes_nothing(tmp_path: Path) -> None:
    first = shop.create_shop(tmp_path / "shop.db")
    before = connect(first).purchases_of(shop.THREE_PURCHASES)
    again = shop.create_shop(tmp_path / "shop.db")
    assert again == first
    assert connect(again).purchases_of(shop.THREE_PURCHASES) == before


def test_a_products_file_has_its_size_and_cannot_be_compressed() -> None:
    product = shop.PRODUCTS[0]
    content = content_of(product)
    assert content == content_of(product)
    assert len(content) == product.megabytes * 1_000_000
    assert len(zlib.compress(content)) >= len(content)


def test_every_purchase_can_be_downloaded_and_nothing_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    orders = connect(shop.create_shop(tmp_path / "shop.db"))
    with caplog.at_level(logging.INFO), ObjectStore(bucket="sandbox-tests") as store:
        files = S3Files(
            S3Settings.model_validate(
                {
                    "bucket": store.bucket,
                    "region": store.region,
                    "endpoint_url": store.endpoint_url,
                    "access_key_id": store.access_key_id,
                    "secret_access_key": store.secret_access_key,
                }
            )
        )
        assert all(files.exists(purchase.asset) for purchase in orders.purchases_of(shop.THREE_PURCHASES))
    assert [entry.name for entry in caplog.records if entry.name == "werkzeug"] == []


def test_a_store_may_be_opened_again_under_the_same_name() -> None:
    for _ in range(2):
        with ObjectStore(bucket="sandbox-again", products=shop.PRODUCTS[:1]) as store:
            assert list(store.files) == [shop.PRODUCTS[0].asset]
