"""Gateways that tests start: in this process on a real port, and in a process of their own."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import uvicorn

from orchestrator.bootstrap import Application
from orchestrator.gateway import serving
from tests.support.configurations import FLOWS
from tests.support.webhooks import SECRET, order, signed

PATIENCE_SECONDS = 60


class Served:
    """A gateway behind a real port."""

    def __init__(self, app: Application, port: int, status_port: int) -> None:
        self.app = app
        self.port = port
        self.status_port = status_port
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS)

    def post(self, body: bytes, path: str = "/hooks/shop", **headers: str) -> httpx.Response:
        return self.client.post(path, content=body, headers=headers)

    def shop(self, number: int = 1, **more: Any) -> httpx.Response:
        body = order(number, **more)
        return self.post(body, **signed("standard-webhooks", body, time.time(), id_=f"m-{number}"))

    def refused(self) -> Counter[tuple[str, str]]:
        """Return the refused calls on the record, which are there once the gateway has stopped."""
        with self.app.record.store.read() as tx:
            events = [event for event in self.app.record.trail.latest(tx, limit=999) if event.kind == "calls.refused"]
        calls = [call for event in events for call in event.data["refused"]]
        return Counter({(call["webhook"], call["reason"]): call["calls"] for call in calls})


@contextmanager
def serve(app: Application) -> Iterator[Served]:
    server = uvicorn.Server(serving.configured(app))
    anywhere = app.settings.gateway.model_copy(update={"port": 0, "status_port": 0})
    listeners = serving.listen(anywhere)
    port, status_port = (listener.getsockname()[1] for listener in listeners)
    thread = Thread(target=server.run, args=(listeners,), name="gateway")
    thread.start()
    wait_until(lambda: server.started or not thread.is_alive())
    served = Served(app, port, status_port)
    try:
        yield served
    finally:
        served.client.close()
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        Event().wait(0.01)


def _lasting_port() -> int:
    """Return a free port below those that the system gives to others for a connection (Linux: from 32768 on)."""
    while True:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Process:
    """A gateway in a process of its own, with the processes that come with the project."""

    def __init__(self, folder: Path, settings: str = "") -> None:
        self.folder = folder
        self.port, self.status_port = _lasting_port(), _lasting_port()
        (folder / "o.toml").write_text(
            f'{FLOWS}store = {{url = "sqlite:///{folder}/r.db", key_file = "{folder}/key"}}\n'
            f"gateway.port = {self.port}\n"
            f"gateway.status_port = {self.status_port}\n{settings}"
            '[webhooks.shop]\nprocess = "lost-download"\nverify = "standard-webhooks"\n'
            f'secrets = ["{SECRET}"]\ninput.email = "/customer/email"\n'
        )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE_SECONDS)
        self.running: subprocess.Popen[bytes] | None = None

    def start(self, *, open_files: int = 4096) -> subprocess.Popen[bytes]:
        limited = ["prlimit", f"--nofile={open_files}:{open_files}"]
        command = [*limited, sys.executable, "-m", "orchestrator", "gateway", "--config", str(self.folder / "o.toml")]
        with (self.folder / "log").open("ab") as log:
            self.running = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        wait_until(self._answers)
        return self.running

    def _answers(self) -> bool:
        assert self.running is not None
        assert self.running.poll() is None, (self.folder / "log").read_text()
        try:
            return self.client.get("/ready/hooks").status_code == 200
        except httpx.TransportError:
            return False

    def post(self, number: int) -> str | None:
        """Return the delivery if the call was answered with 202."""
        body = order(number)
        headers = signed("standard-webhooks", body, time.time(), id_=f"m-{number}")
        try:
            response = self.client.post("/hooks/shop", content=body, headers=headers)
        except httpx.TransportError:
            return None
        return str(response.json()["delivery"]) if response.status_code == 202 else None


def received(connection: socket.socket) -> bytes:
    """Return what comes until the other side closes."""
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))
