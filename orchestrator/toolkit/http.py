"""HTTP for connectors: one total time for each call, and errors that say what happens next.

A connector that speaks HTTP gives its paths and reads the answers; what can go wrong on the way is the same for all:
``orchestrator.toolkit.http_failures``.
"""

from __future__ import annotations

import math
import socket
import ssl
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import timedelta
from functools import cache, cached_property
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar
from weakref import finalize

import httpx

from orchestrator.errors import AccessDenied, Rejected, Unavailable
from orchestrator.toolkit.deadline import TimeLimit, within
from orchestrator.toolkit.http_failures import failure, refusal
from orchestrator.toolkit.settings import BaseUrl, NetworkSettings

__all__ = ["Exchange", "HttpSettings", "HttpSystem", "failure", "refusal"]

T = TypeVar("T")
Headers = Callable[[], Mapping[str, str]]
"""Called for each request: the credential may have been renewed meanwhile."""

_DISCARD_UNSENT = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
"""What a closed connection has not sent yet must not arrive long after the outcome was judged."""
_GIVE_UP_AFTER: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)
"""tcp(7): data that the other side has not taken after so many milliseconds is dropped, with the connection."""


class HttpSettings(NetworkSettings, frozen=True):
    """What every connector that speaks HTTP can be told; inherit from it (with ``frozen=True``)."""

    base_url: BaseUrl
    """Scheme, host and what stands before each path, so that a local stand-in can take the system's place."""


class HttpSystem:
    """One system, over HTTP. Connections are kept open between calls.

    Args:
        name: How messages name the system: ``Keap``.
        settings: Where it is, and how long it may take.
        headers: What stands in each request, such as the credential.
        setting: How the connection's section names the address, for messages.
    """

    def __init__(
        self, name: str, settings: HttpSettings, headers: Headers = dict, *, setting: str = "base_url"
    ) -> None:
        self._setting = setting
        self.place = f"{name} at {httpx.URL(settings.base_url).host}"
        self._settings = settings
        self._headers = headers
        self._making_client = Lock()

    @property
    def limit(self) -> timedelta:
        """When a call is surely over; a connector declares it in its ``Settlement``.

        It is twice its total time: what the system does not take for that long is dropped, even if this process
        stands still then.
        """
        return 2 * self._settings.timeout

    def read(self, path: str, *, query: Mapping[str, str] | None = None, about_one: bool = False) -> Any:
        """Get a document.

        Args:
            path: Behind ``base_url``; parts that come from outside must be quoted.
            query: What stands behind the question mark.
            about_one: Whether the path names one thing, so that "not found" is about that thing.

        Returns:
            The JSON that was answered; None for an empty answer.
        """
        answer = self.send("GET", path, query=query, about_one=about_one, writes=False)
        return self._document(answer, writes=False)

    def change(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None,
        about_one: bool = False, not_done: Collection[int] = (),
    ) -> Any:  # fmt: skip
        """Change something.

        Args:
            method: ``POST``, ``PUT``, ``PATCH`` or ``DELETE``.
            path: As for ``read``.
            body: Is sent as JSON; bytes are sent as they are.
            headers: More headers, such as an idempotency key.
            about_one: As for ``read``.
            not_done: Statuses by which the vendor documents that this operation has not been done.

        Returns:
            The JSON that was answered; None for an empty answer.
        """
        answer = self.send(
            method, path, body=body, headers=headers, about_one=about_one, writes=True, not_done=not_done
        )
        return self._document(answer, writes=True)

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        about_one: bool = False,
        writes: bool,
        not_done: Collection[int] = (),
    ) -> httpx.Response:
        """Make one call, and return its answer if it is a success.

        Raises:
            ConnectorError: It is none, or there is none in time.
        """
        answer = self.operation(
            lambda exchange: self.ask(exchange, method, path, query=query, body=body, headers=headers, writes=writes)
        )
        if answer.is_success:
            return answer
        acted = writes and answer.status_code not in not_done
        raise refusal(answer, self.place, writes=acted, about_one=about_one, setting=self._setting)

    def operation(self, calls: Callable[[Exchange], T]) -> T:
        """Make several calls that belong together and end together, within the total time.

        Args:
            calls: Makes them with ``ask``, handing on the exchange that it is given.

        Raises:
            Unavailable: They have not ended in time; ``no_effect`` if nothing that changes anything has left us.
        """
        seconds = self._settings.timeout_seconds
        exchange = Exchange(TimeLimit(seconds))
        try:
            return within(timedelta(seconds=seconds), lambda: calls(exchange))
        except TimeoutError as exc:
            message = f"{self.place}: no answer within {seconds:g} s"
            raise Unavailable(message, no_effect=exchange.end()) from exc

    def ask(
        self,
        exchange: Exchange,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        writes: bool,
    ) -> httpx.Response:
        """Make one call of an operation, and return its answer, whatever its status.

        Raises:
            ConnectorError: There is none.
        """
        given: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
        signed = {**self._headers(), **(headers or {})}
        try:
            request = httpx.Request(
                method,
                self._settings.base_url.rstrip("/") + path,
                params=query or None,
                headers=signed,
                **(given if body is not None else {}),
            )
            exchange.watch(request, writes=writes)
            return self._client.send(request)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise failure(exc, self.place, writes=writes, setting=self._setting) from exc

    def _document(self, answer: httpx.Response, *, writes: bool) -> Any:
        if not answer.content:
            return None
        try:
            return answer.json()
        except ValueError as exc:
            if writes:  # it has been done, and nobody knows as what
                raise Unavailable(f"{self.place}: done, with an answer that is no JSON", no_effect=False) from exc
            raise Rejected(f"{self.place}: the answer is no JSON: check {self._setting}") from exc

    @property
    def _client(self) -> httpx.Client:
        with self._making_client:
            return self._made_client

    @cached_property
    def _made_client(self) -> httpx.Client:
        """The client, made at the first call, because that reads the authorities."""
        options: list[Any] = [_DISCARD_UNSENT]
        if _GIVE_UP_AFTER is not None:
            options.append((socket.IPPROTO_TCP, _GIVE_UP_AFTER, math.ceil(1000 * self._settings.timeout_seconds)))
        transport = httpx.HTTPTransport(verify=_trusted(self._settings.ca_file), socket_options=options)
        client = httpx.Client(transport=transport, timeout=self._settings.timeout_seconds)
        finalize(self, client.close)
        return client


class Exchange:
    """The calls of one operation, with one time limit; once it has passed, none of their bytes are sent any more.

    Args:
        limit: The time of all of them together.
    """

    def __init__(self, limit: TimeLimit) -> None:
        self._limit = limit
        self._changes = False
        self._over = False
        self._lock = Lock()

    def watch(self, request: httpx.Request, *, writes: bool) -> None:
        """Stop the request at its beginning, and before its last byte, if that would leave us after the end.

        Args:
            request: The request, before it is sent.
            writes: Whether it changes something.
        """

        def trace(event: str, _info: object) -> None:  # called by httpcore at each stage
            if event.endswith((".send_request_headers.started", ".send_request_body.started")):
                self._admit(writes=writes)

        request.extensions["trace"] = trace
        if content := request.content:
            request.stream = _Body(content, lambda: self._admit(writes=writes))

    def end(self) -> bool:
        """End it.

        Returns:
            Whether certainly no request that changes something has been sent.
        """
        with self._lock:
            self._over = True
            return not self._changes

    def _admit(self, *, writes: bool) -> None:
        with self._lock:
            if self._over:
                raise TimeoutError("the time is over")
            self._limit.check()
            self._changes = self._changes or writes


class _Body(httpx.SyncByteStream):
    """A body whose last byte is sent apart: without it, the system has no request that it could act on."""

    def __init__(self, content: bytes, admit: Callable[[], None]) -> None:
        self._content = content
        self._admit = admit

    def __iter__(self) -> Iterator[bytes]:
        yield self._content[:-1]
        self._admit()
        yield self._content[-1:]


def _trusted(file: Path | None) -> ssl.SSLContext:
    try:
        return _authorities(file)
    except (ssl.SSLError, OSError) as exc:
        what = f"ca_file cannot be used ({type(exc).__name__})"
        raise AccessDenied(f"{what}: give a file of certificates in PEM format") from exc


@cache
def _authorities(file: Path | None) -> ssl.SSLContext:
    """Read the authorities, which takes longer than a call, once for all connections."""
    return ssl.create_default_context(cafile=file) if file else httpx.create_ssl_context()
