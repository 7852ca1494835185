"""Starts processes, starts those again that die or hang, and stops all of them within a stated time."""

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
SILENT_SECONDS = 60.0
"""A process that gives no sign of life for so long hangs."""
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
        silent_seconds: A process that gives no sign of life for so long is killed, and started again.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        form: Form,
        lock: int,
        stop_seconds: float,
        restarted: Callable[[str], None],
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        self._children = children
        self._form = form
        self._lock = lock
        self._stop_seconds = stop_seconds
        self._restarted = restarted
        self._silent_seconds = silent_seconds
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
            began = time.monotonic()
            process, signs = await self._start(child)
            code = await self._ended(child, process, signs)
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

    async def _start(self, child: Child) -> tuple[Process, int]:
        """Start a process, and return it with the pipe from which its signs of life are read."""
        signs, giving = os.pipe()
        process = await anyio.open_process(
            child.command(self._tie, giving, ORPHAN_SECONDS, self._form),
            stdin=subprocess.DEVNULL,
            stdout=None if child.is_ours else subprocess.DEVNULL,  # Prefect's greeting is no line of a log
            stderr=None,
            env=child.whole_environment(),
            start_new_session=True,  # Ctrl-C reaches this process alone, which stops the others in order
            pass_fds=(self._tie, giving, self._lock),
        )
        os.close(giving)
        self._running[child.name] = process
        logger.info("Started %s (process %d)", child.name, process.pid)
        return process, signs

    async def _ended(self, child: Child, process: Process, signs: int) -> int:
        """Wait until a process ends, and see to it if it hangs."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._end_if_silent, child, process, signs)
            code = await process.wait()
            group.cancel_scope.cancel()
        os.close(signs)
        return code

    async def _end_if_silent(self, child: Child, process: Process, signs: int) -> None:
        """Kill a process that hangs. It has two chances: this process may have been stopped together with it."""
        silences = 0
        while silences < 2:  # noqa: PLR2004 - as said above
            with anyio.move_on_after(self._silent_seconds / 2) as waited:
                await anyio.wait_readable(signs)
            silences = silences + 1 if waited.cancelled_caught else 0
            if not silences and not os.read(signs, 65536):
                return  # it has ended
        logger.error(
            "The %s (process %d) hangs: it has given no sign of life for %g s, and is killed",
            child.name,
            process.pid,
            self._silent_seconds,
        )
        self._kill([child.name])

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
