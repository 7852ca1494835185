"""Why a server gives no proper answer: the way to it, walked step by step after a check has failed."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Literal

from orchestrator.errors import RateLimited, Unavailable
from orchestrator.toolkit import within
from orchestrator_connectors.mail.settings import ServerSettings

_STEP_SECONDS = 2.0
_GREETINGS = {"smtp": b"220", "imap": b"* "}
"""What the server says first (RFC 5321 section 4.2; RFC 9051 section 7.1)."""


@contextmanager
def explained(server: ServerSettings, section: Literal["smtp", "imap"], timeout_seconds: float) -> Iterator[None]:
    """Add to whatever made the server unavailable what somebody should change in its section, if that is to be seen.

    Args:
        server: The server.
        section: What the configuration calls it.
        timeout_seconds: How long one step of the way may take; two seconds are enough.
    """
    try:
        yield
    except RateLimited:
        raise
    except Unavailable as exc:
        if remedy := _remedy(server, section, min(timeout_seconds, _STEP_SECONDS)):
            raise Unavailable(f"{exc}: {remedy}", no_effect=exc.no_effect) from exc
        raise


def _remedy(server: ServerSettings, section: str, patience: float) -> str:
    try:
        return _walked(server, section, patience)
    except socket.gaierror:
        return f"there is no such host, correct {section}.host"
    except ConnectionRefusedError:
        return f"nobody listens there, correct {section}.host or {section}.port"
    except TimeoutError:
        return f"nothing comes back from there, correct {section}.host or {section}.port, or open the firewall"
    except OSError:
        return f"there is no way to it, correct {section}.host or {section}.port"


def _walked(server: ServerSettings, section: str, patience: float) -> str:
    """Go as far as the greeting.

    Raises:
        OSError: There was nobody.
    """
    if server.security == "tls":
        if not _speaks_tls(server, patience):
            return f'it does not begin with TLS, write {section}.security = "starttls" or correct {section}.port'
        return ""
    with _connected(server, patience) as connection:
        greeting = _first_bytes(connection)
    if greeting.startswith(_GREETINGS[section]):
        return ""
    if not greeting and _speaks_tls(server, patience):
        return f'it begins with TLS, write {section}.security = "tls" or correct {section}.port'
    return f"it does not greet as {section.upper()} servers do, correct {section}.host or {section}.port"


def _connected(server: ServerSettings, patience: float) -> socket.socket:
    address = (server.host, server.port)
    # A name look-up knows no time-out.
    return within(timedelta(seconds=2 * patience), lambda: socket.create_connection(address, patience))


def _first_bytes(connection: socket.socket) -> bytes:
    try:
        return connection.recv(len(b"220"))
    except OSError:
        return b""


def _speaks_tls(server: ServerSettings, patience: float) -> bool:
    """Tell whether TLS is spoken at once; whose certificate it is does not matter here, because nothing is sent."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    with _connected(server, patience) as connection:
        try:
            anybody.wrap_socket(connection, server_hostname=server.host).close()
        except OSError:
            return False
    return True
