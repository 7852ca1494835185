"""Links live no longer than the session that signs them: sessions of a role, of short-lived keys, of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from orchestrator.errors import AccessDenied, Rejected, Unavailable
from orchestrator_connectors.s3 import S3Files
from tests.support.strict_s3 import CONTENT, DRESS, ROLE, StrictS3

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
THREE_DAYS = timedelta(days=3)
NO_KEYS = {"access_key_id": None, "secret_access_key": None}


@pytest.fixture(scope="module")
def kept() -> Iterator[StrictS3]:
    with StrictS3() as store:
        yield store


@pytest.fixture
def store(kept: StrictS3) -> StrictS3:
    kept.reset()
    return kept


def left(files: S3Files) -> timedelta:
    return files.link_to(DRESS, valid_for=THREE_DAYS).expires_at - datetime.now(UTC)


def opens(url: str) -> bool:
    try:
        with urlopen(url) as answer:
            return bool(answer.read() == CONTENT)
    except HTTPError:
        return False


# --- a role -----------------------------------------------------------------------------------------------------------


def test_a_link_of_a_role_says_that_it_ends_with_the_session_and_does(store: StrictS3) -> None:
    files = S3Files(store.with_role())
    link = files.link_to(DRESS, valid_for=THREE_DAYS)
    (session,) = [key for key in store.keys.values() if key.ends]
    assert session.ends is not None
    assert session.ends - 2 * SECOND <= link.expires_at <= session.ends
    store.ahead = link.expires_at - datetime.now(UTC) - 2 * SECOND
    assert opens(link.url)
    store.ahead += 4 * SECOND
    assert not opens(link.url)


def test_a_session_signs_many_links(store: StrictS3) -> None:
    files = S3Files(store.with_role())
    for _ in range(3):
        assert 59 * MINUTE < left(files) <= HOUR
    assert files.link_to(DRESS, valid_for=MINUTE).expires_at <= datetime.now(UTC) + MINUTE
    assert store.sessions == 1


def test_a_session_lasts_as_long_as_is_written_down(store: StrictS3) -> None:
    store.longest_session = 12 * HOUR
    files = S3Files(store.with_role(role={"arn": ROLE, "external_id": store.external_id, "hours": 12}))
    assert left(files) > 11 * HOUR
    assert files.check().endswith("they live 10 to 720 minutes, if a process asks for longer")


def test_a_session_that_leaves_a_link_too_little_is_renewed_first(store: StrictS3) -> None:
    files = S3Files(store.with_role(least_link_minutes=30))
    store.gives = 29 * MINUTE
    assert files.exists(DRESS)
    store.gives = None
    assert left(files) > 59 * MINUTE
    assert store.sessions == 2


def test_a_session_that_stays_too_short_signs_nothing(store: StrictS3) -> None:
    files = S3Files(store.with_role(least_link_minutes=30))
    store.gives = 29 * MINUTE
    for call in (files.check, lambda: files.link_to(DRESS, valid_for=THREE_DAYS)):
        with pytest.raises(Unavailable, match="before least_link_minutes; it waits for a new session") as caught:
            call()
        assert caught.value.no_effect
    assert files.link_to(DRESS, valid_for=29 * MINUTE - 5 * SECOND)


def test_a_session_that_is_taken_away_is_opened_again(store: StrictS3) -> None:
    files = S3Files(store.with_role())
    assert files.exists(DRESS)
    store.keys = {key_id: key for key_id, key in store.keys.items() if key.ends is None}
    with pytest.raises(AccessDenied):
        files.exists(DRESS)
    assert files.exists(DRESS)
    assert store.sessions == 2


def test_a_role_may_be_taken_on_by_whatever_the_environment_holds(
    store: StrictS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.secret)
    assert left(S3Files(store.with_role(**NO_KEYS))) > 59 * MINUTE


def test_a_role_without_a_credential_is_taken_on_by_nobody(
    store: StrictS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(AccessDenied, match="NoCredentialsError"):
        S3Files(store.with_role(**NO_KEYS)).exists(DRESS)


@pytest.mark.parametrize("answer", [b"<html>", b"<html/>", b""])
def test_an_answer_that_holds_no_session_is_an_error_of_ours(store: StrictS3, answer: bytes) -> None:
    store.faults.append((200, answer, {"Content-Type": "text/html"}))
    with pytest.raises((Unavailable, AccessDenied)) as caught:
        S3Files(store.with_role()).link_to(DRESS, valid_for=HOUR)
    assert store.secret not in str(caught.value)


# --- short-lived keys -------------------------------------------------------------------------------------------------


def short_lived(store: StrictS3, lasts: timedelta) -> S3Files:
    key_id, key = store.open_session(lasts)
    given = {"access_key_id": key_id, "secret_access_key": key.secret, "session_token": key.token}
    return S3Files(store.settings(**given, session_ends=key.ends))


def test_links_of_short_lived_keys_end_with_them(store: StrictS3) -> None:
    files = short_lived(store, 2 * HOUR)
    assert 119 * MINUTE < left(files) <= 2 * HOUR
    assert opens(files.link_to(DRESS, valid_for=THREE_DAYS).url)
    assert "links end with the session that signs them: they live 10 to 120 minutes" in files.check()


def test_keys_that_leave_a_link_too_little_must_be_replaced(store: StrictS3) -> None:
    files = short_lived(store, 9 * MINUTE)
    for call in (files.check, lambda: files.link_to(DRESS, valid_for=THREE_DAYS)):
        with pytest.raises(AccessDenied, match="give new keys, with their session_token and session_ends"):
            call()
    assert files.link_to(DRESS, valid_for=5 * MINUTE)
    with pytest.raises(Rejected):
        files.link_to(DRESS, valid_for=timedelta(0))


def in_environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    monkeypatch.delenv("AWS_CREDENTIAL_EXPIRATION", raising=False)
    usual = {"ACCESS_KEY_ID": "temporary", "SECRET_ACCESS_KEY": "hidden", "SESSION_TOKEN": "token"}
    for name, value in (usual | values).items():
        monkeypatch.setenv(f"AWS_{name}", value)


def test_links_of_a_session_in_the_environment_end_with_it(store: StrictS3, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + 2 * HOUR
    in_environment(monkeypatch, CREDENTIAL_EXPIRATION=ends.isoformat())
    files = S3Files(store.settings(**NO_KEYS))
    assert ends - 2 * SECOND <= files.link_to(DRESS, valid_for=THREE_DAYS).expires_at <= ends
    assert files.link_to(DRESS, valid_for=HOUR).expires_at < ends


def test_a_session_whose_end_nobody_knows_signs_nothing(store: StrictS3, monkeypatch: pytest.MonkeyPatch) -> None:
    in_environment(monkeypatch)
    with pytest.raises(AccessDenied, match="nobody says when it and its links end"):
        S3Files(store.settings(**NO_KEYS)).link_to(DRESS, valid_for=HOUR)


def test_a_session_that_has_ended_and_is_not_renewed_is_denied(
    store: StrictS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_environment(monkeypatch, CREDENTIAL_EXPIRATION=(datetime.now(UTC) - HOUR).isoformat())
    files = S3Files(store.settings(**NO_KEYS))
    for call in (lambda: files.exists(DRESS), lambda: files.link_to(DRESS, valid_for=HOUR)):
        with pytest.raises(AccessDenied, match="the session has ended"):
            call()


def test_a_credential_that_is_replaced_in_its_file_is_found(
    store: StrictS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    shared = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    shared.write_text(f"[default]\naws_access_key_id = {store.key_id}\naws_secret_access_key = wrong\n")
    files = S3Files(store.settings(**NO_KEYS))
    with pytest.raises(AccessDenied):
        files.exists(DRESS)
    shared.write_text(f"[default]\naws_access_key_id = {store.key_id}\naws_secret_access_key = {store.secret}\n")
    assert files.exists(DRESS)
