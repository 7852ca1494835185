"""Serves the gateway until it is told to stop."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from orchestrator.bootstrap import Application
from orchestrator.errors import ConfigurationError
from orchestrator.gateway.app import create_app
from orchestrator.gateway.connections import BACKLOG, ConnectionLimits, GatewayProtocol, maximum_connections
from orchestrator.gateway.ingress import ACCEPT_SECONDS
from orchestrator.liveness import BEAT_SECONDS, beat
from orchestrator.logs import RepeatFilter
from orchestrator.settings import GatewaySettings

LAST_CALLS_SECONDS = 30
"""At a stop, calls in flight get so long to be accepted."""
STRANGERS_LOGGERS = ("uvicorn.error", "asyncio", "orchestrator.gateway.ingress")
"""Loggers of what any stranger can bring about, as often as they like."""


def serve(app: Application) -> None:
    """Serve the gateway (SIGTERM and SIGINT stop it; what was begun is finished first).

    Args:
        app: The application.

    Raises:
        ConfigurationError: A webhook is configured wrongly, or an address is taken.
        RecordError: The record does not open.
    """
    server = uvicorn.Server(configured(app))
    listeners = listen(app.settings.gateway)
    for name in STRANGERS_LOGGERS:
        logging.getLogger(name).addFilter(RepeatFilter())
    # uvicorn raises the signal again when it has stopped: then, the process is to end as one that was not killed.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    server.run(sockets=listeners)


def configured(app: Application) -> uvicorn.Config:
    """Return how the gateway is served.

    Args:
        app: The application.

    Raises:
        ConfigurationError: A webhook is configured wrongly.
        RecordError: The record does not open.
    """
    settings = app.settings.gateway
    # Addresses may hold a path secret. Without this, whoever configures logging later would turn the log on again.
    logging.getLogger("uvicorn.access").disabled = True
    request_seconds = max(LAST_CALLS_SECONDS, settings.read_seconds + ACCEPT_SECONDS)
    limits = ConnectionLimits(
        maximum=maximum_connections(), header_seconds=settings.read_seconds, request_seconds=request_seconds
    )
    protocol: Any = partial(GatewayProtocol, limits=limits)  # uvicorn calls it like the class
    return uvicorn.Config(
        create_app(app),
        http=protocol,
        ws="none",
        backlog=BACKLOG,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=int(request_seconds),
        callback_notify=beat,
        timeout_notify=int(BEAT_SECONDS),
    )


def listen(settings: GatewaySettings) -> list[socket.socket]:
    """Return the sockets that the gateway listens at: for senders, and for those who ask how it is.

    Raises:
        ConfigurationError: It cannot listen there.
    """
    senders = _listeners("port", settings.host, settings.port)
    return senders + _listeners("status_port", settings.status_host, settings.status_port)


def _listeners(setting: str, host: str, port: int) -> list[socket.socket]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return [socket.create_server(address[:2], family=family, backlog=BACKLOG) for family, *_, address in found]
    except OSError as exc:
        raise ConfigurationError(
            f"[gateway] {setting}: the gateway cannot listen at {host}, port {port} ({exc.strerror}); "
            "stop what listens there, or write another port"
        ) from exc


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)
