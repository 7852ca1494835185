"""A worker that is told to stop does not wait until Prefect has been shown everything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from uuid import UUID

import pytest

from orchestrator.worker.prefect_sync import mirror
from tests.support.app_with_fakes import CONFIG, Office

ID = str(UUID(int=1))


class Prefect(ThreadingHTTPServer):
    """Answers as far as the mirror asks, and has the worker stop at the first run that it is shown."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Call)
        self.stop = Event()
        self.calls_after_stop: list[str] = []


class _Call(BaseHTTPRequestHandler):
    server: Prefect

    def do_POST(self) -> None:
        if self.server.stop.is_set():
            self.server.calls_after_stop.append(self.path)
        if self.path.startswith("/api/deployments/name/"):
            self.server.stop.set()
        lists = self.path.endswith("/filter")
        body = json.dumps([] if lists else {"id": ID, "deployment_id": ID, "state": None}).encode()
        self.send_response(404 if "csrf-token" in self.path else 200)  # as a server that asks for none
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST  # noqa: N815 - http.server finds it by this name

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def prefect() -> Iterator[Prefect]:
    with Prefect() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_no_more_runs_are_shown_once_the_worker_stops(tmp_path: Path, prefect: Prefect) -> None:
    office = Office(tmp_path, CONFIG.replace("127.0.0.1:9", f"127.0.0.1:{prefect.server_port}"))
    for number in range(5):
        office.serve(f"customer-{number}@example.com")
    mirror(office.app, prefect.stop)
    assert prefect.stop.is_set()
    assert prefect.calls_after_stop == []
    office.app.record.store.close()
