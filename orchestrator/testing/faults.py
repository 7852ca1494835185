"""A network that fails on demand, between a real client and a real server."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

_CHUNK = 65536
_START_SECONDS = 10


@dataclass
class _Fault:
    kind: Literal["cut", "hold", "trickle", "replace", "refuse", "swallow"]
    after: bytes
    passing: int = 0
    pause: float = 0
    instead: bytes = b""
    answer: Callable[[bytes], bytes] = bytes


@dataclass
class _Line:
    """One client's connection: what it sent last, and the fault that has struck it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    sent: bytes = b""
    fault: _Fault | None = None

    async def close(self) -> None:
        for writer in (self.client, self.server):
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def abort(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class FaultProxy:
    """Forwards TCP connections on 127.0.0.1 to a server, and breaks one of them when it is told to.

    Each fault waits until the client has sent ``after``; it then strikes that connection, once.

    Args:
        host: The server's host.
        port: The server's port.
    """

    port: int
    """Where clients connect to."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._fault: _Fault | None = None
        self._longest_delay = 0.0
        self.connections = 0
        """How many clients have connected so far."""

    def delay(self, *, at_most: float) -> None:
        """Pass everything on late from now on, each piece by another time of up to so many seconds."""
        self._longest_delay = at_most

    def lose_answer(self, *, after: bytes, passing: int = 0) -> None:
        """Let the server act, then drop the connection once so many bytes of its answer have passed."""
        self._fault = _Fault("cut", after, passing=passing)

    def hold_answer(self, *, after: bytes) -> None:
        """Let the server act, and never pass its answer; the connection stays open."""
        self._fault = _Fault("hold", after)

    def trickle_answer(self, *, after: bytes, pause: float) -> None:
        """Pass the answer byte by byte, with a pause in seconds before each."""
        self._fault = _Fault("trickle", after, pause=pause)

    def replace_answer(self, *, after: bytes, by: bytes) -> None:
        """Let the server act, and pass this instead of its answer; then the connection ends."""
        self._fault = _Fault("replace", after, instead=by)

    def refuse_request(self, *, at: bytes, answer: Callable[[bytes], bytes]) -> None:
        """Keep what holds ``at`` from the server, and answer what ``answer`` makes of it; the connection goes on."""
        self._fault = _Fault("refuse", at, answer=answer)

    def lose_request(self, *, at: bytes) -> None:
        """Drop the connection before the server has received the end of ``at``."""
        self._fault = _Fault("swallow", at)

    @property
    def pending(self) -> bool:
        """Whether a fault still waits for its moment."""
        return self._fault is not None

    def __enter__(self) -> Self:
        started: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), name="faults", daemon=True)
        self._thread.start()
        started.result(timeout=_START_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    async def _serve(self, started: Future[None]) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set_result(None)
        await self._stopping.wait()
        server.close()
        # What is still connected is cancelled by asyncio.run(), which waits until it is closed.

    async def _connect(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            from_server, to_server = await asyncio.open_connection(*self._server)
        except OSError:
            to_client.close()
            return
        line = _Line(to_client, to_server)
        ways = [asyncio.create_task(self._ask(line, from_client)), asyncio.create_task(self._answer(line, from_server))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            await line.close()
        except asyncio.CancelledError:  # the proxy stops
            line.abort()
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)

    async def _ask(self, line: _Line, from_client: asyncio.StreamReader) -> None:
        while chunk := await from_client.read(_CHUNK):
            before, line.sent = len(line.sent), line.sent + chunk
            fault = self._fault
            # What is looked for must end in what has just come.
            if fault and line.sent.find(fault.after, max(0, before - len(fault.after) + 1)) >= 0:
                self._fault, line.fault = None, fault
                if fault.kind == "swallow":
                    return
                if fault.kind == "refuse":
                    line.fault = None
                    line.client.write(fault.answer(chunk))
                    continue
            line.sent = line.sent[-_CHUNK:]
            await self._wait()
            line.server.write(chunk)
            await line.server.drain()

    async def _answer(self, line: _Line, from_server: asyncio.StreamReader) -> None:
        while chunk := await from_server.read(_CHUNK):
            await self._wait()
            match line.fault:
                case None:
                    line.client.write(chunk)
                case _Fault(kind="cut") as fault:
                    line.client.write(chunk[: fault.passing])
                    fault.passing -= len(chunk)
                    if fault.passing <= 0:
                        return
                case _Fault(kind="replace") as fault:
                    line.client.write(fault.instead)
                    return
                case _Fault(kind="trickle") as fault:
                    await _trickle(line.client, chunk, fault.pause)
            await line.client.drain()

    async def _wait(self) -> None:
        if self._longest_delay:
            await asyncio.sleep(random.uniform(0, self._longest_delay))  # noqa: S311 - no secret


async def _trickle(client: asyncio.StreamWriter, chunk: bytes, pause: float) -> None:
    for byte in chunk:
        await asyncio.sleep(pause)
        client.write(bytes([byte]))
