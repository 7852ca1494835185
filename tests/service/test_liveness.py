"""Signs of life: of an event loop for `orchestrator up`, and of `orchestrator up` for systemd."""

from __future__ import annotations

import socket
from pathlib import Path

import anyio
import pytest

from orchestrator.liveness import HUNG_SECONDS, Pulse, keep_beating, pulse
from orchestrator.service.systemd import keep_notifying
from tests.support.gateways import PATIENCE_SECONDS, serve, wait_until
from tests.support.webhooks import configured


def test_a_loop_that_has_not_begun_is_not_missed_and_one_that_hangs_is() -> None:
    now = 0.0
    loop = Pulse(lambda: now)
    assert loop.is_alive
    loop.beat()
    now = HUNG_SECONDS - 1
    assert loop.is_alive
    now = HUNG_SECONDS
    assert not loop.is_alive
    loop.beat()
    assert loop.is_alive


def test_the_loop_of_a_gateway_gives_signs_of_life(tmp_path: Path) -> None:
    app = configured(tmp_path)
    with serve(app):
        for _ in range(2):
            last = pulse.last
            wait_until(lambda last=last: pulse.last != last)  # type: ignore[misc]
    app.record.store.close()


def test_any_other_loop_does_so_until_it_is_cancelled() -> None:
    async def run() -> None:
        with anyio.move_on_after(0):
            await keep_beating()

    last = pulse.last
    anyio.run(run)
    assert pulse.last != last


@pytest.mark.parametrize("kind", ["file", "abstract"])
def test_systemd_is_told_twice_in_the_time_that_it_waits(tmp_path: Path, kind: str) -> None:
    address = str(tmp_path / "notify") if kind == "file" else f"@{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address.replace("@", "\0"))
        systemd.settimeout(PATIENCE_SECONDS)

        async def run() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(keep_notifying, {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"})
                for _ in range(3):
                    assert await anyio.to_thread.run_sync(systemd.recv, 100) == b"WATCHDOG=1"
                group.cancel_scope.cancel()

        anyio.run(run)


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nowhere"}, {"WATCHDOG_USEC": "1"}])
def test_without_systemd_nobody_is_told(environment: dict[str, str]) -> None:
    anyio.run(keep_notifying, environment)
