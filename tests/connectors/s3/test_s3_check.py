"""What ``check`` of the s3 connector says about each mistake: one sentence that names what to change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.errors import AccessDenied, ConnectorError, NotFound, Unavailable
from orchestrator_connectors.s3 import S3Files
from tests.support.strict_s3 import DRESS, ROLE, SEALED, StrictS3

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
CLOCK = "this machine's clock is wrong: set it, and keep it by NTP"


@pytest.fixture(scope="module")
def kept() -> Iterator[StrictS3]:
    with StrictS3() as store:
        yield store


@pytest.fixture
def store(kept: StrictS3) -> StrictS3:
    kept.reset()
    return kept


@dataclass(frozen=True)
class Mistake:
    """What is wrong: in the settings, or at the store."""

    says: str
    kind: type[ConnectorError] = AccessDenied
    settings: Callable[[StrictS3], dict[str, Any]] = lambda _store: {}
    at_the_store: Callable[[StrictS3], object] = lambda _store: None


def change(**changes: Any) -> Callable[[StrictS3], dict[str, Any]]:
    return lambda _store: changes


def role(**changes: Any) -> Callable[[StrictS3], dict[str, Any]]:
    return lambda store: {"role": {"arn": ROLE, "external_id": store.external_id, **changes}}


def deny(*actions: str) -> Callable[[StrictS3], object]:
    return lambda store: store.denied.update(actions)


def go_ahead(by: timedelta) -> Callable[[StrictS3], object]:
    return lambda store: setattr(store, "ahead", by)


def ended_session(store: StrictS3) -> dict[str, Any]:
    key_id, key = store.open_session(-HOUR)
    keys = {"access_key_id": key_id, "secret_access_key": key.secret, "session_token": key.token}
    return {**keys, "session_ends": store.now + HOUR}


def foreign_token(store: StrictS3) -> dict[str, Any]:
    return {**ended_session(store), "session_token": "another"}


MISTAKES = {
    "key id": Mistake("access_key_id is not known there", settings=change(access_key_id="AKIAOTHER")),
    "secret": Mistake(
        "secret_access_key does not belong to access_key_id", settings=change(secret_access_key="another")
    ),
    "region": Mistake("; the bucket lies in eu-central-1", settings=change(region="us-west-2")),
    "bucket": Mistake("there is no such bucket: correct bucket", settings=change(bucket="no-such-bucket")),
    "bucket without a known asset": Mistake(
        "there is no such bucket: correct bucket", settings=change(bucket="no-such-bucket", known_asset=None)
    ),
    "permission": Mistake("s3:GetObject on the files", at_the_store=deny("s3:GetObject")),
    "permission to list": Mistake(
        "s3:ListBucket on the bucket", settings=change(known_asset=None), at_the_store=deny("s3:ListBucket")
    ),
    "permission for KMS": Mistake(
        "is encrypted with KMS, and this credential may not use its key: allow kms:Decrypt on it",
        settings=change(known_asset=SEALED.key),
        at_the_store=deny("kms:Decrypt"),
    ),
    "permission for a sealed file": Mistake(
        "s3:GetObject on the files",
        settings=change(known_asset=SEALED.key),
        at_the_store=deny("kms:Decrypt", "s3:GetObject"),
    ),
    "ended session": Mistake("the session has ended", settings=ended_session),
    "token of other keys": Mistake("its token is that of other keys", settings=foreign_token),
    "role that does not trust us": Mistake("the role's trust policy", settings=role(external_id="another")),
    "role that is not there": Mistake("allow sts:AssumeRole on role.arn", settings=role(arn=f"{ROLE}-not")),
    "role for too long": Mistake("role.hours is more than it allows", settings=role(hours=2)),
    "secret of who takes on a role": Mistake(
        "secret_access_key does not belong",
        settings=lambda store: {**role()(store), "secret_access_key": "another"},
    ),
    "key id of who takes on a role": Mistake(
        "access_key_id is not known there", settings=lambda store: {**role()(store), "access_key_id": "AKIAOTHER"}
    ),
    "known asset": Mistake("correct known_asset, prefix", NotFound, settings=change(known_asset="nowhere.zip")),
    "prefix": Mistake("correct known_asset, prefix", NotFound, settings=change(prefix="elsewhere/")),
    "version": Mistake(
        "or its line in objects",
        NotFound,
        settings=change(objects={DRESS.key: {"key": DRESS.key, "version": "3sL4kqtJlcpXroDTDmJ"}}),
    ),
    "clock that is slow": Mistake(CLOCK, at_the_store=go_ahead(5 * MINUTE)),
    "clock that is fast": Mistake(CLOCK, at_the_store=go_ahead(-20 * MINUTE)),
    "clock, with a role": Mistake(CLOCK, settings=role(), at_the_store=go_ahead(20 * MINUTE)),
    "clock, and a sealed file": Mistake(
        CLOCK, settings=change(known_asset=SEALED.key), at_the_store=go_ahead(5 * MINUTE)
    ),
    "endpoint": Mistake("check that endpoint_url is right", Unavailable, change(endpoint_url="http://127.0.0.1:1")),
    "TLS where there is none": Mistake(
        "it speaks no TLS there: correct ca_file or endpoint_url",
        Unavailable,
        settings=lambda store: {"endpoint_url": store.url.replace("http:", "https:")},
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_check_says_in_one_sentence_what_to_change(store: StrictS3, name: str) -> None:
    mistake = MISTAKES[name]
    files = S3Files(store.settings(**mistake.settings(store)))
    mistake.at_the_store(store)
    with pytest.raises(mistake.kind) as caught:
        files.check()
    said = str(caught.value)
    assert mistake.says in said
    assert len(said.splitlines()) == 1
    assert ". " not in said.replace(store.url, "")
    assert store.secret not in said
    assert caught.value.no_effect


def test_a_check_opens_what_it_can(store: StrictS3) -> None:
    for known in (DRESS.key, SEALED.key):
        checked = S3Files(store.settings(known_asset=known)).check()
        assert checked.endswith("a link to the known asset opens; links live up to 7 days")
    listed = S3Files(store.settings(known_asset=None)).check()
    assert "answers to this credential; links live up to 7 days; with known_asset, a download is tried" in listed
