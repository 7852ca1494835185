from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from urllib.request import urlopen

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.capabilities import Asset, FileLinks
from orchestrator.errors import AccessDenied, NotFound
from orchestrator.plugins import Connector, DoubtClass, Settlement
from orchestrator_connectors.s3 import S3Files, S3Settings, register_connectors
from orchestrator_connectors.s3.failures import _NO_PERMISSION
from tests.support.paths import ROOT
from tests.support.strict_s3 import CONTENT, DRESS, ROLE, StrictS3

HOUR = timedelta(hours=1)
ENDS = "2026-11-24T20:00:00Z"
COURSE = Asset(key="courses/zippers-without-fear (2025).mp4")


@pytest.fixture(scope="module")
def bucket() -> Iterator[StrictS3]:
    with StrictS3() as bucket:
        yield bucket


def connect(bucket: StrictS3, /, **changes: object) -> S3Files:
    return S3Files(bucket.settings(**{"known_asset": None, **changes}))


def offline(**changes: object) -> S3Files:
    keys = {"bucket": "product-files", "access_key_id": "key", "secret_access_key": "hidden"}
    return S3Files(S3Settings.model_validate(keys | changes))


def signed(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def test_a_link_downloads_the_file_and_names_it_for_the_browser(bucket: StrictS3) -> None:
    bucket.put(COURSE.key, CONTENT)
    link = connect(bucket).link_to(COURSE, valid_for=HOUR)
    with urlopen(link.url) as answer:
        assert answer.headers["Content-Disposition"] == 'attachment; filename="zippers-without-fear (2025).mp4"'
        assert answer.read() == CONTENT


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
    assert offline(timeout_seconds=4).settlements["link_to"] == Settlement(
        doubt=DoubtClass.PURE, timeout=timedelta(seconds=4)
    )
    assert set(offline().settlements) == {"link_to"}


# --- which object an asset is -----------------------------------------------------------------------------------------

LIST = {"SEWING-1": "Kurse/Nähen, für Anfänger.mp4"}


@given(st.text("aZ0 ._()/+-?%&#=\\\n\x00:;@ü", min_size=1, max_size=30))
def test_without_a_list_a_text_that_is_no_key_names_nothing(text: str) -> None:
    """What comes from a mail or a CRM can at most name a file below the prefix, by its plain key."""
    try:
        asset = Asset(key=text)
    except ValidationError:
        return
    link = urlsplit(LINKS.link_to(asset, valid_for=HOUR).url)
    assert unquote(link.path) == f"/public/{text}"
    assert set(parse_qs(link.query)) == SIGNED


LINKS = offline(prefix="public/")
SIGNED = {"response-content-disposition"} | {
    f"X-Amz-{name}" for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")
}


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 ._()+/-]*", fullmatch=True))
def test_with_a_list_nothing_else_is_named_and_nobody_asked(key: str) -> None:
    if ".." in key or "//" in key:
        return
    asset = Asset(key=key)
    assert LISTED.exists(asset) is False  # nobody listens at its address: to ask would be an error
    with pytest.raises(NotFound, match="is not listed: add it to objects"):
        LISTED.link_to(asset, valid_for=HOUR)


LISTED = offline(objects=LIST, endpoint_url="http://127.0.0.1:1")


def test_an_asset_is_the_object_that_the_list_says(bucket: StrictS3) -> None:
    bucket.put("shop/Kurse/Nähen, für Anfänger.mp4", b"course")
    files = connect(bucket, objects=LIST, prefix="shop/")
    assert files.exists(Asset(key="SEWING-1"))
    with urlopen(files.link_to(Asset(key="SEWING-1"), valid_for=HOUR).url) as answer:
        disposition = answer.headers["Content-Disposition"]
        assert disposition == "attachment; filename*=UTF-8''N%C3%A4hen%2C%20f%C3%BCr%20Anf%C3%A4nger.mp4"
        assert answer.read() == b"course"


def test_a_pinned_asset_stays_that_version_while_the_file_changes(bucket: StrictS3) -> None:
    version = bucket.put("pinned.zip", b"first edition")
    bucket.put("pinned.zip", b"second edition")
    files = connect(bucket, objects={"old": {"key": "pinned.zip", "version": version}, "new": "pinned.zip"})
    links = [files.link_to(Asset(key=key), valid_for=HOUR).url for key in ("old", "new")]
    assert [urlopen(link).read() for link in links] == [b"first edition", b"second edition"]
    assert [signed(link).get("versionId") for link in links] == [version, None]
    bucket.owner.delete_object(Bucket=bucket.bucket, Key="pinned.zip")
    assert [files.exists(Asset(key=key)) for key in ("old", "new")] == [True, False]
    bucket.owner.delete_object(Bucket=bucket.bucket, Key="pinned.zip", VersionId=version)
    assert files.exists(Asset(key="old")) is False


def test_a_missing_bucket_is_not_a_missing_file(bucket: StrictS3) -> None:
    with pytest.raises(AccessDenied, match=r"'no-such-bucket'.* does not exist"):
        connect(bucket, bucket="no-such-bucket").exists(DRESS)


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
        ({"session_token": "hidden"}, "session_ends"),
        ({"session_ends": "2026-11-24T20:00:00Z"}, "session_token"),
        ({"session_token": "hidden", "session_ends": "2026-11-24T20:00:00"}, "session_ends"),
        (
            {"session_token": "hidden", "session_ends": ENDS, "access_key_id": None, "secret_access_key": None},
            "session_token belongs to access_key_id",
        ),
        ({"role": {"arn": "arn:aws:iam::123456789012:user/files"}}, "role.arn"),
        ({"role": {"arn": ROLE, "hours": 13}}, "role.hours"),
        ({"role": {"arn": ROLE, "hours": 0.25}, "least_link_minutes": 15}, "role.hours"),
        ({"role": {"arn": ROLE, "external_id": "?"}}, "role.external_id"),
        ({"objects": {}}, "objects"),
        ({"objects": {"../x": "x"}}, "objects"),
        ({"objects": {"x": "/y"}}, "objects.x.key"),
        ({"objects": {"x": "a/../y"}}, "objects.x.key"),
        ({"objects": {"x": "line\nbreak"}}, "objects.x.key"),
        ({"objects": {"x": ""}}, "objects.x.key"),
        ({"objects": {"x": "ü" * 513}}, "objects.x.key"),
        ({"objects": {"x": {"key": "y", "version": "not one"}}}, "objects.x.version"),
        ({"objects": {"x": "y"}, "known_asset": "y"}, "known_asset does not stand in objects"),
    ],
)
def test_wrong_settings_are_refused_by_name_and_never_shown(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError, match=named) as caught:
        offline(**changes)
    assert "hidden" not in str(caught.value)


def test_without_boto3_the_message_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['botocore'] = None\n"
        "from orchestrator_connectors.s3 import S3Files, S3Settings\n"
        "S3Files(S3Settings(bucket='product-files'))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ConfigurationError: the s3 connector needs boto3: pip install" in ended.stderr


def test_the_plug_in_is_imported_without_its_vendor_library() -> None:
    code = "import sys, orchestrator_connectors.s3; sys.exit('botocore' in sys.modules)"
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


# --- the manual -------------------------------------------------------------------------------------------------------

MANUAL = (ROOT / "docs" / "connectors" / "s3.md").read_text()


def fenced(language: str) -> list[str]:
    return [
        textwrap.dedent(text) for text in re.findall(rf"^ *```{language}\n(.*?)```", MANUAL, re.DOTALL | re.MULTILINE)
    ]


def test_the_sections_in_the_manual_fit() -> None:
    sections = [tomllib.loads(block)["connections"]["files"] for block in fenced("toml")]
    assert len(sections) == 3
    for section in sections:
        assert section.pop("connector") == "s3"
        S3Files(S3Settings.model_validate(section))


def test_the_manual_names_every_setting() -> None:
    rows = [line.split("|")[1] for line in MANUAL.partition("## Set it up")[0].splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(S3Settings.model_fields)


def test_the_policy_in_the_manual_grants_what_the_errors_name() -> None:
    (policy,) = [json.loads(block) for block in fenced("json")]
    granted = {statement["Action"] for statement in policy["Statement"]}
    assert granted == {"s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket", "kms:Decrypt"}
    assert all(action in _NO_PERMISSION for action in granted)
