"""Processes that share one file of tokens, against a provider that takes each refresh token once."""

from __future__ import annotations

import json
import multiprocessing as mp
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import pytest
from deep import cases

from orchestrator.errors import AccessDenied
from orchestrator.plugins.tokens import Tokens, TokenStore, tokens_from

PROCESSES = 8
THREADS = 2
EXPIRIES = cases(20, 200)
START = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
A_DAY = 86400


class Provider(ThreadingHTTPServer):
    """Takes only the newest refresh token, and gives another for it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Endpoint)
        self.refreshes = 0
        self.refused = 0
        self.lock = Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/token"

    def answer(self, refresh_token: str) -> tuple[int, dict[str, object]]:
        with self.lock:
            if refresh_token != f"r{self.refreshes}":
                self.refused += 1
                return 400, {"error": "invalid_grant"}
            self.refreshes += 1
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


def worker(path: Path, url: str, now: Any, barrier: Any, rank: int, seen: Any) -> None:
    """Ask for fresh tokens on each of many days, in several threads."""
    store = TokenStore(path=path, clock=lambda: datetime.fromtimestamp(now.value, UTC))

    def refresh(before: Tokens) -> Tokens:
        try:
            with urllib.request.urlopen(url, before.refresh_token.encode(), timeout=60) as answer:
                return tokens_from(json.load(answer), now=store.clock(), before=before)
        except urllib.error.HTTPError as error:
            raise AccessDenied("invalid_grant") from error

    with ThreadPoolExecutor(THREADS) as threads:
        for _ in range(EXPIRIES):
            if rank == 0:
                now.value += A_DAY
            barrier.wait(60)
            asked = [threads.submit(store.fresh, refresh) for _ in range(THREADS)]
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
