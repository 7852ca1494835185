"""Takes the answer of an authorization server out of a browser on this machine (RFC 8252 section 7.3)."""

from __future__ import annotations

import hmac
from datetime import timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from orchestrator.errors import AccessDenied, ConfigurationError, ConnectorError, Unavailable

_BROWSER_SECONDS = 10
"""Browsers also open connections that they never use."""
_ERROR_CODE = frozenset("abcdefghijklmnopqrstuvwxyz_")


class Loopback:
    """Waits on 127.0.0.1 for one answer, while the context lasts.

    Args:
        state: What the answer must carry; any other is refused, and waiting goes on (RFC 6749 section 10.12).
        port: Where to listen; 0 for any free port.

    Raises:
        ConfigurationError: The port cannot be listened on.
    """

    def __init__(self, state: str, *, port: int = 0) -> None:
        self.state = state
        self._answers: SimpleQueue[str | ConnectorError] = SimpleQueue()
        try:
            self._server = _Server(self, port)
        except (OSError, OverflowError) as exc:
            raise ConfigurationError(f"--port: cannot wait on port {port} of 127.0.0.1; name another one") from exc

    @property
    def redirect_uri(self) -> str:
        """Where the browser is to be sent."""
        return f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self, limit: timedelta) -> str:
        """Wait for the code.

        Raises:
            AccessDenied: The person or the authorization server refused.
            Unavailable: No answer came in time.
        """
        try:
            answer = self._answers.get(timeout=limit.total_seconds())
        except Empty:
            raise Unavailable(
                f"no answer came to {self.redirect_uri} within {limit.total_seconds() / 60:g} minutes: start again, "
                "and open the address in a browser that reaches this machine's 127.0.0.1",
                no_effect=True,
            ) from None
        if isinstance(answer, ConnectorError):
            raise answer
        return answer

    def take(self, query: str) -> tuple[HTTPStatus, str]:
        """Judge what a browser brought.

        Returns:
            The status and the text that the browser shows.
        """
        given = parse_qs(query, keep_blank_values=True)
        if not hmac.compare_digest(_only(given, "state").encode(), self.state.encode()):
            return HTTPStatus.BAD_REQUEST, "This answer belongs to another attempt. Open the newest address again."
        if code := _only(given, "code"):
            self._answers.put(code)
            return HTTPStatus.OK, "Received. The terminal says what became of it; you can close this page."
        self._answers.put(_refused(_only(given, "error")))
        return HTTPStatus.OK, "Access was not granted. The terminal says more; you can close this page."


class _Server(ThreadingHTTPServer):
    """In threads, because a browser's idle connection must not keep out the one that matters."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, loopback: Loopback, port: int) -> None:
        self.loopback = loopback
        super().__init__(("127.0.0.1", port), _Page)


class _Page(BaseHTTPRequestHandler):
    server: _Server
    timeout = _BROWSER_SECONDS

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if asked.path != "/":
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        status, text = self.server.loopback.take(asked.query)
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        """Print nothing: the address holds the code."""


def _only(given: dict[str, list[str]], name: str) -> str:
    values = given.get(name, [])
    return values[0] if len(values) == 1 else ""


def _refused(error: str) -> ConnectorError:
    if error == "access_denied":
        return AccessDenied("access was not granted in the browser: start again, and allow it there")
    named = f" ({error})" if error and set(error) <= _ERROR_CODE else ""
    return AccessDenied(
        f"the authorization server refused{named}: check the client's id, and that the redirect address of this "
        "attempt is allowed for it"
    )
