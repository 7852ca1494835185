"""Starts processes, starts those again that die, and stops all of them within a stated time."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import anyio
from anyio.abc import Process

from orchestrator.logs import Form
from orchestrator.service.children import Child

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 60.0
STEADY_SECONDS = 60.0
"""Who lived for so long did not die of its start: the next pause is the first again."""
SHARE_OF_FIRST_WAVE = 0.8
"""Of the time for a stop: the rest is Prefect's, to which the worker still reports."""
ORPHAN_SECONDS = 10.0
"""So long a child goes on when this process was killed."""
CANNOT_START = 1
"""How our commands end that said why they cannot start."""
logger = logging.getLogger(__name__)


def pause_after(deaths: int) -> float:
    """Return how long to wait before a start, in seconds, after so many deaths in a row: doubled, up to a minute."""
    return float(min(FIRST_PAUSE_SECONDS * 2 ** min(deaths - 1, 10), LONGEST_PAUSE_SECONDS))


def how(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"ended with code {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


class Supervisor:
    """Keeps the processes of the service running.

    Args:
        children: What to run, in the order in which it stops.
        form: How they write their logs.
        lock: A descriptor that each of them keeps open.
        stop_seconds: Within this time everything has stopped.
        restarted: Told the name of each process that is started again.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        form: Form,
        lock: int,
        stop_seconds: float,
        restarted: Callable[[str], None],
    ) -> None:
        self._children = children
        self._form = form
        self._lock = lock
        self._stop_seconds = stop_seconds
        self._restarted = restarted
        self._running: dict[str, Process] = {}
        self._stopping = anyio.Event()
        self._tie, self._held = os.pipe()
        self.failed = False
        """Whether the service could not start."""
        self.was_ready = False
        """Whether the service has been ready once: from then on, whatever dies is started again."""

    async def run(self) -> None:
        """Run everything until ``stop``; when this returns, all of it has ended."""
        async with anyio.create_task_group() as group:
            for child in self._children:
                group.start_soon(self._keep, child)
            await self._stopping.wait()
            await self._end_all()
        os.close(self._held)
        os.close(self._tie)

    def stop(self) -> None:
        """Stop everything; called again, at once."""
        if self._stopping.is_set():
            logger.warning("Told to stop once more: what still runs is killed")
            self._kill([child.name for child in self._children])
        self._stopping.set()

    async def _keep(self, child: Child) -> None:
        """Start a process, again and again, until the service stops."""
        deaths = 0
        while not self._stopping.is_set():
            process, began = await self._start(child), time.monotonic()
            code = await process.wait()
            del self._running[child.name]
            if self._stopping.is_set():
                return
            if child.is_ours and code == CANNOT_START and not self.was_ready:
                logger.error("The %s cannot start, and has said why: everything stops", child.name)
                self.failed = True
                self._stopping.set()
                return
            deaths = 1 if time.monotonic() - began >= STEADY_SECONDS else deaths + 1
            await self._pause(child, process.pid, code, deaths)

    async def _start(self, child: Child) -> Process:
        process = await anyio.open_process(
            child.command(self._tie, ORPHAN_SECONDS, self._form),
            stdin=subprocess.DEVNULL,
            stdout=None if child.is_ours else subprocess.DEVNULL,  # Prefect's greeting is no line of a log
            stderr=None,
            env=child.whole_environment(),
            start_new_session=True,  # Ctrl-C reaches this process alone, which stops the others in order
            pass_fds=(self._tie, self._lock),
        )
        self._running[child.name] = process
        logger.info("Started %s (process %d)", child.name, process.pid)
        return process

    async def _pause(self, child: Child, pid: int, code: int, deaths: int) -> None:
        pause = pause_after(deaths)
        again = f"for the {deaths}. time in a row; its own lines tell why, or run it by itself: {child}"
        logger.error(
            "The %s (process %d) %s%s; it is started again in %g s",
            child.name,
            pid,
            how(code),
            f" {again}" if deaths > 1 else "",
            pause,
        )
        self._restarted(child.name)
        with anyio.move_on_after(pause):
            await self._stopping.wait()

    async def _end_all(self) -> None:
        """Stop our own processes first, then Prefect: what is under way comes to its end, or is handed over."""
        deadline = anyio.current_time() + self._stop_seconds
        first = anyio.current_time() + SHARE_OF_FIRST_WAVE * self._stop_seconds
        await self._end([child.name for child in self._children if child.is_ours], first)
        await self._end([child.name for child in self._children if not child.is_ours], deadline)

    async def _end(self, names: Sequence[str], deadline: float) -> None:
        running = [self._running[name] for name in names if name in self._running]
        for process in running:
            with suppress(ProcessLookupError):
                process.terminate()
        with anyio.CancelScope(deadline=deadline):
            for process in running:
                await process.wait()
        if left := [name for name in names if name in self._running and self._running[name].returncode is None]:
            logger.warning(
                "Killed, for it did not stop in time: %s; its work goes on at the next start", ", ".join(left)
            )
            self._kill(left)

    def _kill(self, names: Sequence[str]) -> None:
        for name in names:
            if name in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(self._running[name].pid, signal.SIGKILL)  # and whatever it has started itself
