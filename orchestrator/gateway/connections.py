"""Connections to the gateway: each has a deadline, and idle ones make room for new ones.

uvicorn limits the time between two requests alone: headers that never end would keep their connection for ever.
"""

from __future__ import annotations

import asyncio
import resource
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

MAXIMUM = 2048
"""Open connections; one whose headers never end can hold 64 KiB."""
BACKLOG = 128
"""Connections that wait to be accepted; asyncio accepts as many at once."""
OTHER_FILES = 256 + 4 * BACKLOG
"""Open files besides: the database, the log, and connections that are being accepted or closed, for which asyncio needs
up to four rounds."""


def maximum_connections() -> int:
    """Allow this process the open files that it needs, and return how many connections fit into what it is given."""
    with suppress(OSError):  # what it is given is enough for fewer
        _raise_limit(MAXIMUM + OTHER_FILES)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAXIMUM if soft == resource.RLIM_INFINITY else max(1, min(MAXIMUM, soft - OTHER_FILES))


def _raise_limit(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if resource.RLIM_INFINITY != soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@dataclass(kw_only=True)
class ConnectionLimits:
    """What all connections of a gateway share.

    Args:
        maximum: Open connections; one more closes the oldest that has no request in progress.
        header_seconds: From the start of a connection, or from the last answer, to the end of a request's headers.
        request_seconds: From there to the end of its answer.
    """

    maximum: int
    header_seconds: float
    request_seconds: float
    idle: dict[GatewayProtocol, None] = field(default_factory=dict)
    """Connections without a request in progress, oldest first."""


class GatewayProtocol(H11Protocol):
    """uvicorn's protocol with a deadline that no byte of the client moves.

    Args:
        limits: What all connections share.
        given: What uvicorn gives to its protocols.
    """

    def __init__(self, *, limits: ConnectionLimits, **given: Any) -> None:
        super().__init__(**given)
        self._limits = limits
        self._current: RequestResponseCycle | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait_for_request()
        if len(self.connections) > self._limits.maximum:
            next(iter(self._limits.idle)).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._limits.idle.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()

    def handle_events(self) -> None:
        """Notice that a request has begun."""
        super().handle_events()
        self._follow()

    def on_response_complete(self) -> None:
        """Notice that an answer is complete; the next request may have begun already."""
        super().on_response_complete()
        self._follow()

    def _follow(self) -> None:
        current: RequestResponseCycle | None = self.cycle
        if current is not None and current.response_complete:
            current = None
        if current is self._current:
            return
        self._current = current
        if current is None:
            self._wait_for_request()
        else:
            self._limits.idle.pop(self, None)
            self._end_after(self._limits.request_seconds)

    def _wait_for_request(self) -> None:
        self._limits.idle[self] = None
        self._end_after(self._limits.header_seconds)

    def _end_after(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)
