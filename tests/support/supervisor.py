"""A supervisor in a process of its own: ``python -m tests.support.supervisor FOLDER CHILD [CHILD ...]``."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

import anyio

from orchestrator.logs import Form
from orchestrator.service.children import Child
from orchestrator.service.lock import locked
from orchestrator.service.supervision import Supervisor

STOP_SECONDS = 2.0


def child(name: str, folder: Path, how: str = "", *, is_ours: bool = True) -> Child:
    return Child(
        name=name, module="tests.support.supervised_child", arguments=(name, str(folder), how), is_ours=is_ours
    )


def supervisor(*children: Child, lock: int, silent_seconds: float = 60.0) -> Supervisor:
    restarted: list[str] = []
    return Supervisor(
        children,
        form=Form.TEXT,
        lock=lock,
        stop_seconds=STOP_SECONDS,
        restarted=restarted.append,
        silent_seconds=silent_seconds,
    )


async def _stopped_by_signal(supervised: Supervisor) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_stop, supervised)
        await supervised.run()
        group.cancel_scope.cancel()


async def _stop(supervised: Supervisor) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            supervised.stop()
            logging.getLogger(__name__).info("told to stop")


def _described(text: str, folder: Path) -> Child:
    name, _, how = text.partition(":")
    if how != "real":
        return child(name, folder, how)
    return Child(name=name, module="orchestrator", arguments=(name, "--config", str(folder / "o.toml")))


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    folder = Path(sys.argv[1])
    children = [_described(text, folder) for text in sys.argv[2:]]
    with locked(folder) as lock:
        supervised = supervisor(*children, lock=lock, silent_seconds=float(os.environ.get("SILENT_SECONDS", "60")))
        supervised.was_ready = True
        anyio.run(_stopped_by_signal, supervised)


if __name__ == "__main__":
    main()
