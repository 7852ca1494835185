"""The s3 connector, by every contract that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from orchestrator.capabilities import Asset
from orchestrator.plugins import Settlement
from orchestrator.testing.contracts.faults import ConnectorHygieneContract, FaultsContract
from orchestrator.testing.contracts.files import FileLinksContract
from orchestrator.testing.faults import FaultProxy
from orchestrator_connectors.s3 import S3Files
from tests.support.strict_s3 import CONTENT, DRESS, StrictS3

HOUR = timedelta(hours=1)
MISSING = Asset(key="patterns/nowhere.zip")
FAILED = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
REFUSED = b"<ErrorResponse><Error><Code>Refused</Code></Error></ErrorResponse>"


@pytest.fixture(scope="module")
def bucket() -> Iterator[StrictS3]:
    with StrictS3() as bucket:
        yield bucket


@pytest.fixture
def revocable(bucket: StrictS3) -> Iterator[StrictS3]:
    """The store, for a test that spoils it."""
    yield bucket
    bucket.reset()


@dataclass(frozen=True)
class Store:
    present: Asset = DRESS
    content: bytes = CONTENT
    missing: Asset = MISSING

    def download(self, url: str) -> bytes | None:
        with suppress(HTTPError), urlopen(url) as answer:
            return bytes(answer.read())
        return None


class TestWithKeys(FileLinksContract):
    connector = "s3"

    @pytest.fixture
    def files(self, bucket: StrictS3) -> S3Files:
        return S3Files(bucket.settings())

    @pytest.fixture
    def store(self) -> Store:
        return Store()


class TestWithRole(FileLinksContract):
    connector = "s3"

    @pytest.fixture
    def files(self, bucket: StrictS3) -> S3Files:
        return S3Files(bucket.with_role(known_asset=None))

    @pytest.fixture
    def store(self) -> Store:
        return Store()


class TestInAFolder(FileLinksContract):
    connector = "s3"

    @pytest.fixture
    def files(self, bucket: StrictS3) -> S3Files:
        return S3Files(bucket.settings(prefix="patterns/", addressing_style="path", known_asset=None))

    @pytest.fixture
    def store(self) -> Store:
        return Store(present=Asset(key="linen-summer-dress.zip"))


class TestByAList(FileLinksContract):
    """One version of an object, under a name that is only ours."""

    connector = "s3"

    @pytest.fixture
    def files(self, bucket: StrictS3) -> S3Files:
        key = "Kurse/Nähen, für Anfänger.mp4"
        version = bucket.put(key, CONTENT)
        bucket.put(key, b"a newer version")
        return S3Files(bucket.settings(objects={"SEWING-1": {"key": key, "version": version}}, known_asset="SEWING-1"))

    @pytest.fixture
    def store(self) -> Store:
        return Store(present=Asset(key="SEWING-1"), missing=DRESS)


class StoreFaults:
    """Lets one call fail: at the store, or on the way back."""

    def __init__(self, store: StrictS3, proxy: FaultProxy) -> None:
        self.url = f"http://127.0.0.1:{proxy.port}"
        self._store = store
        self._proxy = proxy

    def refuse(self, status: int, **headers: str) -> None:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        self._store.faults.append((status, REFUSED, given))

    def drop(self) -> None:
        self._proxy.lose_answer(after=b"\r\n\r\n")

    def cut(self) -> None:
        self._proxy.lose_answer(after=b"\r\n\r\n", passing=60)

    def silence(self) -> None:
        self._proxy.hold_answer(after=b"\r\n\r\n")

    def drip(self) -> None:
        self._proxy.trickle_answer(after=b"\r\n\r\n", pause=0.05)

    def garbage(self) -> None:
        self._store.faults.append((200, b"<html>", {"Content-Type": "text/html"}))

    def fail_after_acting(self) -> None:
        self._proxy.replace_answer(after=b"\r\n\r\n", by=FAILED)

    def revoke(self) -> None:
        self._store.keys.clear()


class TestFaults(FaultsContract):
    """With a role: its sessions are opened at STS, which is all that a link of this connector asks for."""

    connector = "s3"

    @pytest.fixture
    def faults(self, revocable: StrictS3) -> Iterator[StoreFaults]:
        with FaultProxy("127.0.0.1", revocable.port) as proxy:
            yield StoreFaults(revocable, proxy)

    @pytest.fixture
    def connect(self, revocable: StrictS3, faults: StoreFaults) -> Callable[[], S3Files]:
        return lambda: S3Files(revocable.with_role(endpoint_url=faults.url, timeout_seconds=3))

    @pytest.fixture
    def ask(self, connect: Callable[[], S3Files]) -> Callable[[], object]:
        files = connect()
        assert files.exists(DRESS)  # opens the session, so that the next call asks the store alone
        return lambda: files.exists(DRESS)

    @pytest.fixture
    def settlement(self, connect: Callable[[], S3Files]) -> Settlement:
        return connect().settlements["link_to"]

    @pytest.fixture
    def change(self, connect: Callable[[], S3Files]) -> Callable[[], object]:
        return lambda: connect().link_to(DRESS, valid_for=HOUR)  # the first link of a connection opens a session


class TestHygiene(ConnectorHygieneContract):
    connector = "s3"

    @pytest.fixture
    def build(self, bucket: StrictS3) -> Callable[[], S3Files]:
        return lambda: S3Files(bucket.with_role())

    @pytest.fixture
    def secret(self, bucket: StrictS3) -> str:
        return bucket.secret

    @pytest.fixture
    def unreachable(self) -> S3Files:
        with StrictS3() as gone:
            return S3Files(gone.settings())

    @pytest.fixture
    def wrong_credential(self, revocable: StrictS3) -> S3Files:
        files = S3Files(revocable.settings())
        revocable.keys.clear()
        return files
