"""Processes that share one file of tokens, against a provider that takes each refresh token once."""

from __future__ import annotations

import json
import multiprocessing as mp
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Condition, Thread
from typing import Any

import pytest

from orchestrator.errors import AccessDenied
from orchestrator.toolkit.tokens import Tokens, TokenStore, tokens_from
from tests.support.deep import cases

PROCESSES = 8
THREADS = 2
EXPIRIES = cases(12, 200)
START = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
A_DAY = 86400


class Provider(ThreadingHTTPServer):
    """Takes only the newest refresh token, and gives another for it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Endpoint)
        self.refreshes = 0
        self.refused = 0
        self.lock = Condition()

    def wait_for(self, refreshes: int) -> None:
        with self.lock:
            assert self.lock.wait_for(lambda: self.refreshes >= refreshes, timeout=60)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/token"

    def answer(self, refresh_token: str) -> tuple[int, dict[str, object]]:
        with self.lock:
            if refresh_token != f"r{self.refreshes}":
                self.refused += 1
                return 400, {"error": "invalid_grant"}
            self.refreshes += 1
            self.lock.notify_all()
            new = str(self.refreshes)
            return 200, {"access_token": f"a{new}", "refresh_token": f"r{new}", "expires_in": A_DAY - 1}


class _Endpoint(BaseHTTPRequestHandler):
    server: Provider

    def do_POST(self) -> None:
        token = self.rfile.read(int(self.headers["content-length"])).decode()
        status, answer = self.server.answer(token)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[Provider]:
    server = Provider()
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def refreshing(url: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Callable[[Tokens], Tokens]:
    def refresh(before: Tokens) -> Tokens:
        try:
            with urllib.request.urlopen(url, before.refresh_token.encode(), timeout=60) as answer:
                return tokens_from(json.load(answer), now=clock(), before=before)
        except urllib.error.HTTPError as error:
            raise AccessDenied("invalid_grant") from error

    return refresh


def worker(path: Path, url: str, now: Any, barrier: Any, rank: int, seen: Any) -> None:
    """Ask for fresh tokens on each of many days, in several threads."""
    store = TokenStore(path=path, clock=lambda: datetime.fromtimestamp(now.value, UTC))

    with ThreadPoolExecutor(THREADS) as threads:
        for _ in range(EXPIRIES):
            if rank == 0:
                now.value += A_DAY
            barrier.wait(60)
            asked = [threads.submit(store.fresh, refreshing(url, store.clock)) for _ in range(THREADS)]
            seen.put(tuple(each.result().access_token for each in asked))
            barrier.wait(60)


def test_many_processes_refresh_once_for_each_expiry(provider: Provider, tmp_path: Path) -> None:
    path = tmp_path / "crm.json"
    first = Tokens(access_token="a0", refresh_token="r0", expires_at=datetime.fromtimestamp(START, UTC))
    TokenStore(path=path).keep(first)
    context = mp.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    now, barrier, seen = context.Value("d", START), context.Barrier(PROCESSES), context.SimpleQueue()
    arguments = (path, provider.url, now, barrier)
    running = [context.Process(target=worker, args=(*arguments, rank, seen)) for rank in range(PROCESSES)]
    for process in running:
        process.start()
    answers = [token for _ in range(PROCESSES * EXPIRIES) for token in seen.get()]
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * PROCESSES
    assert (provider.refreshes, provider.refused) == (EXPIRIES, 0)
    assert sorted(set(answers)) == sorted(f"a{day}" for day in range(1, EXPIRIES + 1))
    assert TokenStore(path=path).read().expires_at - timedelta(days=1) < datetime.fromtimestamp(now.value, UTC)


def refresh_for_ever(path: Path, url: str) -> None:
    store = TokenStore(path=path)
    while True:
        store.renewed(store.read(), refreshing(url))


def test_a_process_killed_while_it_refreshes_leaves_whole_tokens_and_no_lock(
    provider: Provider, tmp_path: Path
) -> None:
    store = TokenStore(path=tmp_path / "crm.json", patience=timedelta(seconds=10))
    store.keep(Tokens(access_token="a0", refresh_token="r0", expires_at=datetime.fromtimestamp(START, UTC)))
    context = mp.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    for _ in range(cases(3, 200)):
        process = context.Process(target=refresh_for_ever, args=(store.path, provider.url))
        process.start()
        provider.wait_for(provider.refreshes + 3)
        process.kill()
        process.join()
        kept = store.read()
        with provider.lock:
            last = provider.refreshes
        # What was answered and not yet on the disk is lost; nothing older may be.
        assert kept.refresh_token in (f"r{last}", f"r{last - 1}")
        store.keep(kept.model_copy(update={"refresh_token": f"r{last}"}))
        assert store.renewed(store.read(), refreshing(provider.url)).refresh_token == f"r{last + 1}"
        assert {path.name for path in tmp_path.iterdir()} == {"crm.json", "crm.json.lock"}
