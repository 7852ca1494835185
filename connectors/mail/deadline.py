"""A total time-out for a conversation over a socket."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from types import TracebackType
from typing import Any, Self

from orchestrator.plugins import after, within

_Found = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
_DISCARD_UNSENT = struct.pack("ii", 1, 0)
_SEND_ALL = struct.pack("ii", 0, 0)
_SHORTEST = 0.001  # zero would mean not to wait at all


class Deadline:
    """Ends the connections that it watches when the time is over, whatever they wait for then.

    The time-outs of ``smtplib`` and ``imaplib`` bound one read: a server that sends a byte now and then
    keeps them waiting for ever. So an alarm holds a second handle of each connection and shuts it down.
    The handle stays valid when TLS takes over the socket.

    Use it as a context manager around the whole conversation. If that ends with an error, or with the end of
    the process, what still lies unsent in the system's buffers is discarded: otherwise it could reach the
    server, and take effect there, long after the outcome was judged.

    Args:
        seconds: The time from now on.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = monotonic() + seconds
        self._handles: list[socket.socket] = []
        self._lock = threading.Lock()
        self._fired = False
        self._call_off: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        self._call_off = after(self._seconds, self._shut_down)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call_off()
        with self._lock:
            for handle in self._handles:
                if error is None:
                    handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _SEND_ALL)
                handle.close()
            self._handles.clear()

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return self._fired or monotonic() >= self._end

    def connect(self, host: str, port: int) -> socket.socket:
        """Connect to the first address of the host that answers.

        Raises:
            OSError: None does, or the time is over.
        """
        problem = OSError(f"{host} has no address")
        for family, kind, protocol, _, address in self._look_up(host, port):
            connection = socket.socket(family, kind, protocol)
            try:
                self._connect(connection, address)
            except OSError as exc:
                connection.close()
                problem = exc
            else:
                return connection
        raise problem

    def _look_up(self, host: str, port: int) -> Sequence[_Found]:
        # The system's resolver knows no time-out of ours.
        return within(timedelta(seconds=self._left()), lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))

    def _left(self) -> float:
        return max(self._end - monotonic(), _SHORTEST)

    def _connect(self, connection: socket.socket, address: tuple[object, ...]) -> None:
        self.watch(connection)
        connection.connect(address)
        # The end of a mail is a small packet that must not wait for the acknowledgement of the one before.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def watch(self, connection: socket.socket) -> None:
        """Watch a connection that is open or about to be opened.

        Raises:
            TimeoutError: The time is over.
        """
        with self._lock:
            if self.passed:
                raise TimeoutError("the time is over")
            connection.settimeout(self._left())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD_UNSENT)
            self._handles.append(socket.socket(fileno=socket.dup(connection.fileno())))

    def _shut_down(self) -> None:
        with self._lock:
            self._fired = True
            for handle in self._handles:
                with suppress(OSError):  # the server was faster
                    handle.shutdown(socket.SHUT_RDWR)
