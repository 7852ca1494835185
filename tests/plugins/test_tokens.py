from __future__ import annotations

import os
import resource
import stat
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import pytest
from filelock import FileLock

from orchestrator.errors import AccessDenied, Unavailable
from orchestrator.toolkit.tokens import Tokens, TokenStore, tokens_from
from tests.support.clock import HandClock

HOUR = timedelta(hours=1)
ANSWER = {"access_token": "s3cret-a2", "refresh_token": "s3cret-r2", "expires_in": 86399, "token_type": "bearer"}


@pytest.fixture
def store(tmp_path: Path, clock: HandClock) -> TokenStore:
    store = TokenStore(path=tmp_path / "tokens" / "crm.json", clock=clock)
    store.keep(tokens("1", clock() + HOUR))
    return store


def tokens(number: str, expires_at: datetime) -> Tokens:
    return Tokens(access_token=f"s3cret-a{number}", refresh_token=f"s3cret-r{number}", expires_at=expires_at)


def never(_tokens: Tokens) -> Tokens:
    pytest.fail("nothing needed to be refreshed")


def denied(call: Callable[[], object]) -> str:
    with pytest.raises(AccessDenied) as caught:
        call()
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


def test_tokens_are_read_as_they_were_kept(store: TokenStore, clock: HandClock) -> None:
    assert store.read() == tokens("1", clock() + HOUR)


def test_only_the_owner_may_read_the_file_and_nothing_else_lies_beside_it(store: TokenStore) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in store.path.parent.iterdir()}
    assert modes == {"crm.json": 0o600, "crm.json.lock": 0o600}
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_a_file_that_others_may_read_is_refused(store: TokenStore, mode: int) -> None:
    store.path.chmod(mode)
    assert f"(mode {mode:03o}): run chmod 600 {store.path}" in denied(store.read)


@pytest.mark.parametrize("content", [b"", b"s3cret", b"{}", b'{"access_token": ["s3cret"]}', b"\xff\xfe"])
def test_a_file_that_cannot_be_understood_is_not_shown(store: TokenStore, content: bytes) -> None:
    store.path.write_bytes(content)
    assert "connections authorize" in denied(store.read)


def test_what_is_missing_is_told_with_the_remedy(tmp_path: Path) -> None:
    store = TokenStore(path=tmp_path / "crm.json")
    assert "nobody has authorised this connection: run: orchestrator connections authorize" in denied(store.read)
    assert "connections authorize" in denied(lambda: store.fresh(never))


def test_tokens_do_not_show_when_printed(store: TokenStore) -> None:
    assert "s3cret" not in repr(store.read())


def test_valid_tokens_are_not_refreshed(store: TokenStore, clock: HandClock) -> None:
    clock.advance(minutes=57)
    assert store.fresh(never) == store.read()


def test_tokens_about_to_end_are_refreshed_and_kept_before_use(store: TokenStore, clock: HandClock) -> None:
    clock.advance(minutes=58)
    gained = store.fresh(lambda before: tokens_from(ANSWER, now=clock(), before=before))
    assert gained == tokens("2", clock() + timedelta(seconds=86399)) == store.read()
    assert store.fresh(never) == gained


def test_who_was_refused_takes_what_another_has_refreshed_meanwhile(store: TokenStore, clock: HandClock) -> None:
    refused = store.read()
    store.keep(tokens("2", clock() + HOUR))
    assert store.renewed(refused, never) == tokens("2", clock() + HOUR)


def test_revoked_tokens_are_told_to_a_person_and_stay(store: TokenStore) -> None:
    before = store.read()

    def revoked(_tokens: Tokens) -> Tokens:
        raise AccessDenied("the CRM takes this refresh token no longer (invalid_grant)")

    assert "(invalid_grant); to authorise again, run: orchestrator" in denied(lambda: store.renewed(before, revoked))
    assert store.read() == before


def test_a_refusal_is_checked_against_what_was_kept_where_the_lock_does_not_reach(
    store: TokenStore, clock: HandClock
) -> None:
    newer = tokens("9", clock() + HOUR)

    def lose_the_race(_tokens: Tokens) -> Tokens:
        store.path.write_text(newer.model_dump_json())
        raise AccessDenied("invalid_grant")

    assert store.renewed(store.read(), lose_the_race) == newer


def test_a_failure_on_the_way_changes_nothing(store: TokenStore) -> None:
    before = store.read()

    def unreachable(_tokens: Tokens) -> Tokens:
        raise Unavailable("the token endpoint cannot be reached", no_effect=True)

    with pytest.raises(Unavailable):
        store.renewed(before, unreachable)
    assert store.read() == before
    assert store.renewed(before, lambda _tokens: before) == before


def test_the_system_is_not_asked_if_its_answer_could_not_be_kept(store: TokenStore) -> None:
    refused = store.read()
    store.path.parent.chmod(0o500)
    try:
        if os.access(store.path.parent, os.W_OK):  # root may write everywhere
            store.path.parent.chmod(0o700)
            store.path.with_name(f".{store.path.name}.new").mkdir()
        assert "cannot be written" in denied(lambda: store.renewed(refused, never))
    finally:
        store.path.parent.chmod(0o700)


def test_a_full_disk_leaves_the_old_tokens_whole(store: TokenStore, clock: HandClock) -> None:
    before = store.read()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_the_disk(_tokens: Tokens) -> Tokens:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        return tokens("2", clock() + HOUR)

    try:
        message = denied(lambda: store.renewed(before, fill_the_disk))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert "cannot be written" in message
    assert "connections authorize" in message
    assert store.read() == before
    assert {path.name for path in store.path.parent.iterdir()} == {"crm.json", "crm.json.lock"}


def test_what_a_killed_process_left_behind_is_cleared(store: TokenStore, clock: HandClock) -> None:
    store.path.with_name(".crm.json.new").write_text("half a tok")
    store.keep(tokens("2", clock() + HOUR))
    assert store.read() == tokens("2", clock() + HOUR)
    assert {path.name for path in store.path.parent.iterdir()} == {"crm.json", "crm.json.lock"}


def test_nobody_waits_for_ever_for_one_who_hangs(store: TokenStore) -> None:
    impatient = TokenStore(path=store.path, patience=timedelta(seconds=0.1))
    refused = store.read()
    with (
        FileLock(f"{store.path}.lock", thread_local=False),
        pytest.raises(Unavailable, match=r"lock for 0\.1 s") as caught,
    ):
        in_a_thread(lambda: impatient.renewed(refused, never))
    assert caught.value.no_effect


def in_a_thread(call: Callable[[], object]) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except Unavailable as error:
            failures.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def test_threads_refresh_once(store: TokenStore, clock: HandClock) -> None:
    refused, asked, go = store.read(), [], Event()
    gained: list[Tokens] = []

    def refresh(before: Tokens) -> Tokens:
        asked.append(before)
        return tokens("2", clock() + HOUR)

    def work() -> None:
        go.wait()
        gained.append(store.renewed(refused, refresh))

    threads = [Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    assert asked == [refused]
    assert gained == [tokens("2", clock() + HOUR)] * 16


def test_without_a_new_refresh_token_the_old_one_stays(clock: HandClock) -> None:
    before = tokens("1", clock())
    answer = {"access_token": "new", "expires_in": 60}
    assert tokens_from(answer, now=clock(), before=before).refresh_token == "s3cret-r1"


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ({}, "access_token"),
        ({"access_token": ""}, "access_token"),
        ({"access_token": "s3cret"}, "refresh_token"),
        (ANSWER | {"expires_in": "s3cret"}, "expires_in"),
        (ANSWER | {"expires_in": -1}, "expires_in"),
        (ANSWER | {"refresh_token": 7}, "refresh_token"),
    ],
)
def test_an_answer_that_is_none_is_told_by_its_field(answer: dict[str, object], named: str) -> None:
    with pytest.raises(Unavailable, match=f"no usable {named}") as caught:
        tokens_from(answer, now=datetime.now(UTC))
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("answer", [None, "s3cret", [ANSWER]])
def test_an_answer_that_is_no_object_is_refused(answer: object) -> None:
    with pytest.raises(Unavailable, match="no usable object"):
        tokens_from(answer, now=datetime.now(UTC))
