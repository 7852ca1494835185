"""Files in a Dropbox, through the vendor's own client, against a local one that speaks with the vendor's validators."""

from __future__ import annotations

import inspect
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from dropbox import exceptions
from pydantic import ValidationError

from orchestrator.capabilities import FileLinks
from orchestrator.errors import AccessDenied, ConnectorError, NotFound, RateLimited, Rejected, Unavailable
from orchestrator.plugins import Connector
from orchestrator.plugins.authorization import Authorizable
from orchestrator.sandbox.dropbox_server import APP_KEY, DropboxServer
from orchestrator.testing.http_server import Answer, Break, Fault
from orchestrator.toolkit.tokens import Tokens, TokenStore
from orchestrator_connectors.dropbox import DropboxFiles, DropboxSettings, _refusal, _refused, register_connectors
from tests.support.dropbox_account import CONTENT, DRESS, HOUR, PATH, SLOW_DOWN, connect

TEXT = {"Content-Type": "text/plain"}


@pytest.fixture
def server() -> Iterator[DropboxServer]:
    with DropboxServer({PATH: CONTENT}) as server:
        yield server


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_a_token_that_ended_in_the_middle_is_refreshed_once_and_kept(server: DropboxServer, tmp_path: Path) -> None:
    files = connect(server, tmp_path)
    server.expire_access_tokens()
    assert files.exists(DRESS)
    assert server.refreshes == 1
    assert connect(server, tmp_path).exists(DRESS)
    assert server.refreshes == 1


def test_a_token_that_was_taken_back_asks_for_a_person(server: DropboxServer, tmp_path: Path) -> None:
    files = connect(server, tmp_path)
    server.access_tokens.clear()
    with pytest.raises(AccessDenied, match="orchestrator connections authorize"):
        files.exists(DRESS)
    server.expire_access_tokens()
    server.refresh_tokens.clear()
    access, _ = server.grant()
    server.refresh_tokens.clear()
    TokenStore(path=tmp_path / "tokens" / "dropbox").keep(
        Tokens(access_token=access, refresh_token="gone", expires_at=datetime.now(UTC))
    )
    with pytest.raises(AccessDenied, match="authorise again"):
        files.exists(DRESS)


def test_a_person_grants_access(server: DropboxServer, tmp_path: Path) -> None:
    path = tmp_path / "new" / "token"
    files = DropboxFiles(DropboxSettings(app_key=APP_KEY, token_file=path, api_url=server.url, folder="/Products"))
    assert isinstance(files, Authorizable)
    with pytest.raises(AccessDenied, match="nobody has authorised"):
        files.exists(DRESS)
    asked = parse_qs(urlsplit(files.authorization_url("http://127.0.0.1:1/", "state-1")).query)
    assert (asked["state"], asked["token_access_type"]) == (["state-1"], ["offline"])
    code = server.code_for("http://127.0.0.1:1/", asked["code_challenge"][0])
    assert "orchestrator check" in files.redeem(code, "http://127.0.0.1:1/")
    assert path.stat().st_mode & 0o077 == 0
    assert files.exists(DRESS)
    with pytest.raises(AccessDenied):
        files.redeem(code, "http://127.0.0.1:1/")


def test_a_verifier_of_another_attempt_does_not_fit(server: DropboxServer, tmp_path: Path) -> None:
    files = connect(server, tmp_path)
    files.authorization_url("http://127.0.0.1:1/", "s")
    other = urlsafe_b64encode(sha256(b"another").digest()).rstrip(b"=").decode()
    with pytest.raises(AccessDenied):
        files.redeem(server.code_for("http://127.0.0.1:1/", other), "http://127.0.0.1:1/")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(answer=Answer(400, {"error": "invalid_grant"})), AccessDenied),
        (Fault(answer=Answer(401, {"error": "invalid_client"})), AccessDenied),
        (Fault(answer=Answer(503, b"busy", TEXT)), Unavailable),
        (Fault(answer=Answer(200, b"<html>", TEXT)), Unavailable),
        (Fault(answer=Answer(200, {"token_type": "bearer"})), Unavailable),
        (Fault(acts=True), Unavailable),
    ],
)
def test_a_refresh_that_fails_says_what_to_do(
    server: DropboxServer, tmp_path: Path, fault: Fault, kind: type[ConnectorError]
) -> None:
    files = connect(server, tmp_path)
    server.expire_access_tokens()
    TokenStore(path=tmp_path / "tokens" / "dropbox").keep(
        Tokens(access_token="old", refresh_token=next(iter(server.refresh_tokens)), expires_at=datetime.now(UTC))
    )
    server.fail_next(fault)
    with pytest.raises(kind):
        files.exists(DRESS)


# --- faults -----------------------------------------------------------------------------------------------------------


def failure(server: DropboxServer, tmp_path: Path, fault: Fault, **changes: Any) -> ConnectorError:
    files = connect(server, tmp_path, **changes)
    server.fail_next(fault)
    with pytest.raises(ConnectorError) as caught:
        files.link_to(DRESS, valid_for=HOUR)
    assert PATH not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(answer=Answer(500, b"oops", TEXT)), Unavailable),
        (Fault(answer=Answer(503, b"later", TEXT)), Unavailable),
        (Fault(answer=Answer(400, b"bad input at /Products/patterns/linen dress (2025).zip", TEXT)), AccessDenied),
        (
            Fault(answer=Answer(401, {"error": {".tag": "missing_scope", "required_scope": "x"}})),
            AccessDenied,
        ),
        (Fault(answer=Answer(401, {"error": {".tag": "user_suspended"}})), AccessDenied),
        (Fault(answer=Answer(401, {"error": {".tag": "other"}})), AccessDenied),
        (Fault(answer=Answer(422, {"error": {".tag": "no_permission"}})), AccessDenied),
        (Fault(answer=Answer(429, SLOW_DOWN)), RateLimited),
        (Fault(answer=Answer(418, b"?", TEXT)), AccessDenied),
        (Fault(answer=Answer(200, b"<html>", {"Content-Type": "text/html"})), Unavailable),
        (Fault(answer=Answer(200, b"{}")), Unavailable),
        (Fault(answer=Answer(409, b"no json")), Unavailable),
        (Fault(acts=True), Unavailable),
    ],
)
def test_a_failure_is_told_by_what_happens_next(
    server: DropboxServer, tmp_path: Path, fault: Fault, kind: type[ConnectorError]
) -> None:
    assert type(failure(server, tmp_path, fault)) is kind


def test_the_wait_that_is_asked_for_is_handed_on(server: DropboxServer, tmp_path: Path) -> None:
    error = failure(server, tmp_path, Fault(answer=Answer(429, SLOW_DOWN)))
    assert isinstance(error, RateLimited)
    assert error.retry_after == timedelta(seconds=7)


def test_a_missing_permission_is_named(server: DropboxServer, tmp_path: Path) -> None:
    body = {"error": {".tag": "missing_scope", "required_scope": "files.content.read"}}
    assert "sharing.write" in str(failure(server, tmp_path, Fault(answer=Answer(401, body))))


def test_no_answer_takes_longer_than_the_time_out_in_all(server: DropboxServer, tmp_path: Path) -> None:
    error = failure(server, tmp_path, Fault(breaks=Break.SILENCE), timeout_seconds=0.3)
    assert isinstance(error, Unavailable)


def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with DropboxServer({}) as server:
        files = connect(server, tmp_path)
    with pytest.raises(Unavailable):
        files.exists(DRESS)


@pytest.mark.parametrize("kind", [each for _, each in inspect.getmembers(exceptions, inspect.isclass)])
def test_every_exception_of_the_library_is_translated(kind: type[Exception]) -> None:
    if not issubclass(kind, exceptions.DropboxException):
        return
    error = kind.__new__(kind)
    vars(error).update(request_id="r", status_code=418, error=None, body="", backoff=None)
    assert isinstance(_refused(error, "the place"), ConnectorError)


def _errors() -> Iterator[tuple[str, Any, type[ConnectorError]]]:
    from dropbox import files, sharing

    looked, linked = files.LookupError, files.GetTemporaryLinkError
    shared = sharing.CreateSharedLinkWithSettingsError
    yield "not found", linked.path(looked.not_found), NotFound
    yield "a folder", linked.path(looked.not_file), NotFound
    yield "restricted", linked.path(looked.restricted_content), AccessDenied
    yield "locked", linked.path(looked.locked), Rejected
    yield "not verified", linked.email_not_verified, AccessDenied
    yield "not allowed", linked.not_allowed, AccessDenied
    yield "unsupported", linked.unsupported_file, Rejected
    yield "other", linked.other, Rejected
    yield "banned", shared.banned_member, AccessDenied
    yield "no access", shared.access_denied, AccessDenied
    yield "no union at all", object(), Rejected


@pytest.mark.parametrize(("error", "kind"), [pytest.param(e, k, id=name) for name, e, k in _errors()])
def test_a_refusal_is_told_by_its_tags(error: Any, kind: type[ConnectorError]) -> None:
    assert type(_refusal(error, "the place")) is kind


# --- settings ---------------------------------------------------------------------------------------------------------


def test_the_plug_in_offers_the_connector() -> None:
    offered: list[Connector[Any]] = []
    register: Callable[[Connector[Any]], None] = offered.append
    register_connectors(register)
    expected = Connector(name="dropbox", provides=(FileLinks,), settings=DropboxSettings, build=DropboxFiles)
    assert offered == [expected]


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"known_asset": "patterns/nowhere.zip"}, "correct folder or known_asset"),
        ({"folder": "/Nowhere"}, "correct folder"),
    ],
)
def test_a_check_explains_what_is_wrong(
    server: DropboxServer, tmp_path: Path, changes: dict[str, Any], remedy: str
) -> None:
    with pytest.raises(NotFound, match=remedy):
        connect(server, tmp_path, **changes).check()


@pytest.mark.parametrize("wrong", [{"folder": "Products"}, {"folder": "/Products/"}, {"api_url": "dropbox"}, {"x": 1}])
def test_settings_that_cannot_work_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DropboxSettings.model_validate({"app_key": "k", "token_file": tmp_path, **wrong})


def test_building_a_connection_asks_nobody(tmp_path: Path) -> None:
    files = DropboxFiles(DropboxSettings(app_key="k", token_file=tmp_path / "t"))
    assert set(files.settlements) == {"link_to"}
