"""A store of product files that speaks S3, in this process."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from hashlib import shake_256
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from orchestrator.sandbox.shop import PRODUCTS, Product

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def content_of(product: Product) -> bytes:
    """Return the bytes of a product's file: always the same, of the size of a real one, and incompressible."""
    return shake_256(product.asset.encode()).digest(product.megabytes * 1_000_000)


class ObjectStore:
    """A bucket with the shop's files, on a free port of this machine, while the context lasts.

    It takes any credential and honours links that have ended, so that it proves nothing about either. moto keeps
    one state for the whole process: stores that are open at once need buckets of different names.

    Args:
        bucket: The bucket's name.
        products: Whose files lie in it.
    """

    region: Final = "eu-central-1"
    access_key_id = "sandbox-key"
    secret_access_key = "sandbox-secret"

    def __init__(self, *, bucket: str = "product-files", products: Iterable[Product] = PRODUCTS) -> None:
        from moto.server import ThreadedMotoServer

        self.bucket = bucket
        self.files = {product.asset: content_of(product) for product in products}
        self._server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)

    @property
    def endpoint_url(self) -> str:
        """Scheme, host and port."""
        host, port = self._server.get_host_and_port()
        return f"http://{host}:{port}"

    def __enter__(self) -> Self:
        # It would write each request, and so each signed link, to the terminal.
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        self._server.start()
        client = self._client()
        client.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": self.region})
        for key, content in self.files.items():
            client.put_object(Bucket=self.bucket, Key=key, Body=content)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        client = self._client()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            for found in page.get("Contents", []):
                client.delete_object(Bucket=self.bucket, Key=found["Key"])
        client.delete_bucket(Bucket=self.bucket)
        self._server.stop()

    def _client(self) -> S3Client:
        from boto3.session import Session

        return Session().client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self.region,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
        )
