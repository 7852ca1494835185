"""Serves the gateway until it is told to stop."""

from __future__ import annotations

import logging
import signal
import sys
from types import FrameType

import uvicorn

from orchestrator.bootstrap import Application
from orchestrator.gateway.app import create_app
from orchestrator.gateway.ingress import ACCEPT_SECONDS

LAST_CALLS_SECONDS = 30
"""At a stop, calls in flight get so long to be accepted."""
CONNECTIONS_PER_SLOT = 4
"""So many connections may be open for each call in flight; idle ones cost little."""


def serve(app: Application) -> None:
    """Serve the gateway (SIGTERM and SIGINT stop it; what was begun is finished first).

    Args:
        app: The application.

    Raises:
        ConfigurationError: A webhook is configured wrongly.
        RecordError: The record does not open.
    """
    server = uvicorn.Server(configured(app))
    # uvicorn raises the signal again when it has stopped: then, the process is to end as one that was not killed.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    server.run()


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
    return uvicorn.Config(
        create_app(app),
        host=settings.host,
        port=settings.port,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        limit_concurrency=CONNECTIONS_PER_SLOT * settings.in_flight,
        timeout_graceful_shutdown=max(LAST_CALLS_SECONDS, int(settings.read_seconds + ACCEPT_SECONDS)),
    )


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)
