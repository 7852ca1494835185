from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest
from pydantic import ValidationError

from connectors.s3 import S3Files, S3Settings, register_connectors
from orchestrator.capabilities import Asset, FileLinks
from orchestrator.errors import AccessDenied, NotFound
from orchestrator.plugins import Connector, DoubtClass, Settlement
from orchestrator.sandbox.object_store import ObjectStore
from orchestrator.testing.contracts.files import FileLinksContract

HOUR = timedelta(hours=1)
DRESS = Asset(key="patterns/linen-summer-dress.zip")
COURSE = Asset(key="courses/zippers-without-fear (2025).mp4")
MISSING = Asset(key="patterns/nowhere.zip")


@pytest.fixture(scope="module")
def bucket() -> Iterator[ObjectStore]:
    with ObjectStore(bucket="s3-tests") as store:
        yield store


def connect(store: ObjectStore, /, **changes: object) -> S3Files:
    settings = {
        "bucket": store.bucket,
        "region": store.region,
        "endpoint_url": store.endpoint_url,
        "access_key_id": store.access_key_id,
        "secret_access_key": store.secret_access_key,
    }
    return S3Files(S3Settings.model_validate(settings | changes))


def offline(**changes: object) -> S3Files:
    keys = {"bucket": "product-files", "access_key_id": "key", "secret_access_key": "hidden"}
    return S3Files(S3Settings.model_validate(keys | changes))


def signed(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


@dataclass(frozen=True)
class Store:
    present: Asset
    content: bytes
    missing: Asset = MISSING

    def download(self, url: str) -> bytes | None:
        with suppress(HTTPError), urlopen(url) as answer:
            return bytes(answer.read())
        return None


class TestS3Files(FileLinksContract):
    connector = "s3"

    @pytest.fixture
    def files(self, bucket: ObjectStore) -> S3Files:
        return connect(bucket)

    @pytest.fixture
    def store(self, bucket: ObjectStore) -> Store:
        return Store(DRESS, bucket.files[DRESS.key])


class TestS3FilesInAFolder(FileLinksContract):
    connector = "s3"

    @pytest.fixture
    def files(self, bucket: ObjectStore) -> S3Files:
        return connect(bucket, prefix="patterns/", addressing_style="path")

    @pytest.fixture
    def store(self, bucket: ObjectStore) -> Store:
        return Store(Asset(key="linen-summer-dress.zip"), bucket.files[DRESS.key])


def test_a_link_downloads_the_file_and_names_it_for_the_browser(bucket: ObjectStore) -> None:
    link = connect(bucket).link_to(COURSE, valid_for=HOUR)
    with urlopen(link.url) as answer:
        assert answer.headers["Content-Disposition"] == 'attachment; filename="zippers-without-fear (2025).mp4"'
        assert answer.read() == bucket.files[COURSE.key]


def test_a_link_to_a_key_without_a_file_name_is_still_a_download() -> None:
    link = offline().link_to(Asset(key="patterns/"), valid_for=HOUR)
    assert signed(link.url)["response-content-disposition"] == "attachment"


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (timedelta(seconds=1.9), 1),
        (HOUR, 3600),
        (timedelta(days=7), 604_800),
        (timedelta(days=7, seconds=1), 604_800),
        (timedelta.max, 604_800),
    ],
)
def test_a_link_ends_when_its_own_address_says_so(asked: timedelta, seconds: int) -> None:
    link = offline().link_to(DRESS, valid_for=asked)
    address = signed(link.url)
    began = datetime.strptime(address["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert address["X-Amz-Expires"] == str(seconds)
    assert link.expires_at == began + timedelta(seconds=seconds)


def test_a_link_is_signed_with_version_4_and_needs_no_header() -> None:
    address = signed(offline().link_to(DRESS, valid_for=HOUR).url)
    assert address["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert address["X-Amz-SignedHeaders"] == "host"


def test_a_link_of_temporary_credentials_ends_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + 2 * HOUR
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "temporary")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", ends.isoformat())
    files = offline(access_key_id=None, secret_access_key=None)
    assert files.link_to(DRESS, valid_for=timedelta(days=3)).expires_at == ends
    assert files.link_to(DRESS, valid_for=HOUR).expires_at < ends


@pytest.mark.parametrize(
    ("changes", "host"),
    [
        ({"region": "eu-west-1"}, "product-files.s3.eu-west-1.amazonaws.com"),
        ({"region": "cn-north-1"}, "product-files.s3.cn-north-1.amazonaws.com.cn"),
        ({"region": "eu-west-1", "addressing_style": "path"}, "s3.eu-west-1.amazonaws.com"),
        ({"region": "eu-west-1", "bucket": "with.dots"}, "s3.eu-west-1.amazonaws.com"),
        ({"endpoint_url": "https://files.example.com"}, "files.example.com"),
        ({"endpoint_url": "https://example.com", "addressing_style": "virtual"}, "product-files.example.com"),
        ({"endpoint_url": "http://[::1]:9000"}, "[::1]:9000"),
    ],
)
def test_a_link_names_the_host_that_has_the_bucket(changes: dict[str, str], host: str) -> None:
    assert urlsplit(offline(**changes).link_to(DRESS, valid_for=HOUR).url).netloc == host


def test_links_and_looks_share_one_declaration() -> None:
    assert offline(timeout_seconds=4).settlement("link_to") == Settlement(
        doubt=DoubtClass.PURE, timeout=timedelta(seconds=4)
    )
    with pytest.raises(LookupError):
        offline().settlement("exists")


def test_a_missing_bucket_is_not_a_missing_file(bucket: ObjectStore) -> None:
    with pytest.raises(AccessDenied, match=r"'no-such-bucket'.* does not exist"):
        connect(bucket, bucket="no-such-bucket").exists(DRESS)


def test_a_check_opens_a_link_to_the_known_asset(bucket: ObjectStore) -> None:
    assert connect(bucket, known_asset=DRESS.key).check().endswith("a link to the known asset opens")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"known_asset": MISSING.key}, NotFound),
        ({"known_asset": DRESS.key, "bucket": "no-such-bucket"}, AccessDenied),
        ({"bucket": "no-such-bucket"}, AccessDenied),
    ],
)
def test_a_check_fails_if_it_sees_nothing_known(
    bucket: ObjectStore, changes: dict[str, str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        connect(bucket, **changes).check()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"secret_access_key": None}, "belong together"),
        ({"access_key_id": None}, "belong together"),
        ({"buckett": "x"}, "buckett"),
        ({"bucket": "x"}, "bucket"),
        ({"prefix": "patterns"}, "prefix"),
        ({"prefix": "/patterns/"}, "prefix"),
        ({"endpoint_url": "files.example.com"}, "endpoint_url"),
        ({"endpoint_url": "http://my_files:9000"}, "endpoint_url"),
        ({"endpoint_url": "https://user:hidden@files.example.com"}, "endpoint_url"),
        ({"addressing_style": "both"}, "addressing_style"),
        ({"ca_file": "/no/such/file.pem"}, "ca_file"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"known_asset": "../secret"}, "known_asset"),
    ],
)
def test_wrong_settings_are_refused_by_name_and_never_shown(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError, match=named) as caught:
        offline(**changes)
    assert "hidden" not in str(caught.value)


def test_without_boto3_the_message_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['botocore.session'] = None\n"
        "from connectors.s3 import S3Files, S3Settings\n"
        "S3Files(S3Settings(bucket='product-files'))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ConfigurationError: the s3 connector needs boto3: pip install" in ended.stderr


def test_the_plug_in_is_imported_without_its_vendor_library() -> None:
    code = "import sys, connectors.s3; sys.exit('botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_plug_in_offers_the_connector() -> None:
    offered: list[Connector[Any]] = []

    def register(connector: Connector[Any]) -> None:
        offered.append(connector)

    register_connectors(register)
    assert offered == [Connector(name="s3", provides=(FileLinks,), settings=S3Settings, build=S3Files)]


def test_a_ca_file_that_exists_is_taken(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.touch()
    assert offline(ca_file=ca_file).link_to(DRESS, valid_for=HOUR).asset == DRESS
