"""The gateway as a web application: ``POST /hooks/<name>``, ``GET /live``, ``/ready`` and ``/openapi.json``."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orchestrator.bootstrap import Application
from orchestrator.gateway.accepting import Acceptance
from orchestrator.gateway.hooks import Hooks, hook_of
from orchestrator.gateway.ingress import Ingress
from orchestrator.gateway.openapi import document
from orchestrator.gateway.refusals import Refusals
from orchestrator.gateway.slots import Slots
from orchestrator.gateway.writer import Writer
from orchestrator.record.record import Record
from orchestrator.settings import configuration_error

REFUSALS_EVERY_SECONDS = 60.0
"""Refused calls are put on the record at most so often, and when the gateway stops."""
READY_SECONDS = 5.0
logger = logging.getLogger(__name__)


class Gateway:
    """What the web application consists of.

    Args:
        app: The application.

    Raises:
        ConfigurationError: A webhook is configured wrongly.
        RecordError: The record does not open.
    """

    def __init__(self, app: Application) -> None:
        if problems := app.connections.webhook_problems(app.plugins.processes()):
            raise configuration_error(problems)
        self._record: Record = app.record
        self._writer = Writer(Acceptance(app.record, app.runs).accept)
        self._refusals = Refusals(app.record, f"gateway:{secrets.token_hex(8)}")
        hooks = app.settings.webhooks.items()
        self.ingress = Ingress(
            hooks=Hooks(hook_of(name, hook, app.definition(hook.process)) for name, hook in hooks),
            record=app.record,
            writer=self._writer,
            refusals=self._refusals,
            slots=Slots(app.settings.gateway.in_flight),
            settings=app.settings.gateway,
        )

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Accept calls until the end; what is accepted then is stored first."""
        self._writer.start()
        counting = asyncio.create_task(self._count())
        try:
            yield
        finally:
            counting.cancel()
            await asyncio.to_thread(self._writer.stop)
            await asyncio.to_thread(self._write_down_refusals)

    async def live(self, _request: Request) -> Response:
        """Say that this process runs."""
        return JSONResponse({"live": True})

    async def ready(self, _request: Request) -> Response:
        """Say whether calls can be accepted."""
        try:
            await asyncio.wait_for(asyncio.to_thread(self._read_store), READY_SECONDS)
            ready = self._writer.is_alive
        except Exception as exc:  # noqa: BLE001 - whatever it is, the store cannot be read
            logger.warning("Not ready: the store cannot be read (%s)", type(exc).__name__)
            ready = False
        return JSONResponse({"ready": ready}, status_code=200 if ready else 503)

    async def describe(self, _request: Request) -> Response:
        """Describe this interface."""
        return JSONResponse(document())

    def _read_store(self) -> None:
        with self._record.store.read() as tx:
            tx.execute(text("SELECT 1"))

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(REFUSALS_EVERY_SECONDS)
            await asyncio.to_thread(self._write_down_refusals)

    def _write_down_refusals(self) -> None:
        try:
            self._refusals.write_down()
        except Exception as exc:  # noqa: BLE001 - they are kept for the next time
            logger.warning("Refused calls could not be put on the record: %s", type(exc).__name__)


def create_app(app: Application) -> Starlette:
    """Return the web application.

    Args:
        app: The application.

    Raises:
        ConfigurationError: A webhook is configured wrongly.
        RecordError: The record does not open.
    """
    gateway = Gateway(app)
    routes = [
        Route("/hooks/{path:path}", gateway.ingress.receive, methods=["POST"]),
        Route("/live", gateway.live),
        Route("/ready", gateway.ready),
        Route("/openapi.json", gateway.describe),
    ]
    web = Starlette(routes=routes, lifespan=gateway.lifespan)
    web.router.redirect_slashes = False
    return web
