"""Whether this gateway, and the service as a whole, can do its work."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from orchestrator.gateway.writer import Writer
from orchestrator.record.heartbeat import ALIVE, GATEWAY, WORKER, Heartbeat, last_beat
from orchestrator.record.record import Record

STORE_SECONDS = 5.0
PREFECT_SECONDS = 1.0
"""Looks take so long at most."""
GOOD_FOR_SECONDS = 1.0
"""What was found is told again for so long, however many ask."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What works.

    Args:
        hooks: Webhook calls can be accepted: the store can be written, and the writer lives.
        worker: A worker is alive on this store, here or on another machine.
        processes: Every process that is not switched off can be executed; the runs of another one wait.
        prefect: Prefect's server answers; without it customers are served all the same.
    """

    hooks: bool
    worker: bool
    processes: bool
    prefect: bool

    @property
    def ready(self) -> bool:
        """Whether the service as a whole does its work."""
        return self.hooks and self.worker and self.processes


class Readiness:
    """Looks at the parts of the service.

    Args:
        record: The store; looking at it writes a sign of life.
        writer: Stores what is accepted.
        prefect: The address of Prefect's API.
        processes: Whether every process can be executed as configured.
        clock: Tells the time, in seconds.
    """

    def __init__(
        self,
        record: Record,
        writer: Writer,
        prefect: str,
        *,
        processes: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._record = record
        self._writer = writer
        self._prefect = httpx.AsyncClient(base_url=prefect, timeout=PREFECT_SECONDS)
        self._processes = processes
        self._clock = clock
        self._heartbeat = Heartbeat(record, GATEWAY)
        self._looking = asyncio.Lock()
        self._found = Found(hooks=False, worker=False, processes=processes, prefect=False)
        self._good_until = -float("inf")

    async def look(self) -> Found:
        """Return what works, as of a second ago at most."""
        async with self._looking:
            if self._clock() >= self._good_until:
                (writable, worker), prefect = await asyncio.gather(self._look_at_store(), self._look_at_prefect())
                self._found = Found(
                    hooks=writable and self._writer.is_alive,
                    worker=worker,
                    processes=self._processes,
                    prefect=prefect,
                )
                self._good_until = self._clock() + GOOD_FOR_SECONDS
            return self._found

    async def end(self) -> None:
        """Sign off."""
        await self._prefect.aclose()
        try:
            await asyncio.to_thread(self._heartbeat.end)
        except Exception as exc:  # noqa: BLE001 - its sign of life grows old by itself
            logger.warning("This gateway could not sign off: %s", type(exc).__name__)

    async def _look_at_store(self) -> tuple[bool, bool]:
        try:
            return True, await asyncio.wait_for(asyncio.to_thread(self._write_and_read), STORE_SECONDS)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the store cannot be written
            logger.warning("Not ready: the store cannot be written (%s)", type(exc).__name__)
            return False, False

    def _write_and_read(self) -> bool:
        self._heartbeat.beat()
        with self._record.store.read() as tx:
            seen_at = last_beat(tx, WORKER)
        return seen_at is not None and self._record.clock() - seen_at < ALIVE

    async def _look_at_prefect(self) -> bool:
        try:
            return (await self._prefect.get("/health")).is_success
        except httpx.HTTPError:
            return False
