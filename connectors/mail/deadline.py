"""A total time-out for a conversation over a socket."""

from __future__ import annotations

import math
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from selectors import EVENT_WRITE, DefaultSelector
from types import TracebackType
from typing import Any, Self

from orchestrator.toolkit import TimeLimit, after, within

_Found = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
_DISCARD_UNSENT = struct.pack("ii", 1, 0)
_SEND_ALL = struct.pack("ii", 0, 0)
_SHORTEST = 0.001  # zero would mean not to wait at all
_GIVE_UP_AFTER: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)
"""tcp(7): data that the other side has not taken after so many milliseconds is dropped, with the connection."""
_WRITABLE_BELOW: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
"""tcp(7): the connection takes more only when fewer bytes than this wait to be sent."""


class Deadline:
    """Ends the connections that it watches when the time is over, whatever they wait for then.

    The time-outs of ``smtplib`` and ``imaplib`` bound one read: a server that sends a byte now and then
    keeps them waiting for ever. So an alarm holds a second handle of each connection and shuts it down.
    The handle stays valid when TLS takes over the socket.

    That thread stands still together with the sender, if the process is frozen or the machine suspended. So the sender
    calls ``admit_end`` right before the bytes that let something happen.

    Use it as a context manager around the whole conversation. If that ends with an error, or with the end of
    the process, what still lies unsent in the system's buffers is discarded: otherwise it could reach the
    server, and take effect there, long after the outcome was judged.

    Args:
        seconds: The time from now on.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._limit = TimeLimit(seconds)
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
        return self._fired or self._limit.left <= 0

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
        return max(self._limit.left, _SHORTEST)

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
            self._drop_when_over(connection)
            self._handles.append(socket.socket(fileno=socket.dup(connection.fileno())))

    def admit_end(self, connection: socket.socket) -> None:
        """Let the last bytes of a request go, if there is time: called right before they are sent.

        What was sent before must have left this machine by then, and what still waits when the time is over is dropped
        by the system: else a server that reads slowly would find the end long after the outcome was judged, while
        this process stands still and can close nothing.

        Raises:
            TimeoutError: The time is over.
        """
        if _WRITABLE_BELOW is not None:
            connection.setsockopt(socket.IPPROTO_TCP, _WRITABLE_BELOW, 1)
            with DefaultSelector() as selector:
                selector.register(connection, EVENT_WRITE)
                selector.select(self._left())
        self._drop_when_over(connection)
        self._limit.check()

    def _drop_when_over(self, connection: socket.socket) -> None:
        if _GIVE_UP_AFTER is not None:
            connection.setsockopt(socket.IPPROTO_TCP, _GIVE_UP_AFTER, math.ceil(1000 * self._left()))

    def _shut_down(self) -> None:
        with self._lock:
            self._fired = True
            for handle in self._handles:
                with suppress(OSError):  # the server was faster
                    handle.shutdown(socket.SHUT_RDWR)
