"""A server that begins to read one request, lets the time pass, and then reads whatever still comes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event, Thread

PATIENCE_SECONDS = 30
LARGE = 8_000_000
"""More bytes than the buffers of both sides hold."""


@dataclass
class SlowReader:
    """What it is, and what came.

    Args:
        url: Where it is.
    """

    url: str
    received: bytearray = field(default_factory=bytearray)
    begun: Event = field(default_factory=Event)
    """The body of the request has begun to come; there is no more time from then on."""

    def left(self) -> float:
        """Return how many seconds the call still has."""
        return 0 if self.begun.is_set() else PATIENCE_SECONDS

    def serve(self, listener: socket.socket) -> None:
        """Read one request to the end of its connection, and never answer it."""
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.settimeout(PATIENCE_SECONDS)
            while chunk := connection.recv(4096):
                self.received += chunk
                if not self.begun.is_set() and not self.received.endswith(b"\r\n\r\n"):
                    self.begun.set()


@contextmanager
def slow_reader() -> Iterator[SlowReader]:
    """Serve one request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reader = SlowReader(f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread = Thread(target=reader.serve, args=[listener])
        thread.start()
        yield reader
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
