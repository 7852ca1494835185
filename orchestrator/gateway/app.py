"""The gateway as a web application: ``POST /hooks/<name>``, and ``/live``, ``/ready``, ``/metrics`` for who watches."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orchestrator.bootstrap import Application
from orchestrator.gateway.accepting import Acceptance
from orchestrator.gateway.concurrency import ConcurrencyLimit
from orchestrator.gateway.hooks import Hooks, hook_of
from orchestrator.gateway.ingress import Ingress
from orchestrator.gateway.openapi import document
from orchestrator.gateway.readiness import Readiness
from orchestrator.gateway.refusals import Refusals
from orchestrator.gateway.writer import Writer
from orchestrator.metrics.exposition import CONTENT_TYPE, Exposition
from orchestrator.settings import configuration_error


class _AnyPath(PathConvertor):
    """A path with whatever characters; Starlette's own leaves line breaks out, and answers such a path with 404."""

    regex = r"[\s\S]*"


register_url_convertor("any", _AnyPath())
REFUSALS_EVERY_SECONDS = 60.0
"""Refused calls are put on the record at most so often, and when the gateway stops."""
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
        self._writer = Writer(Acceptance(app.record, app.runs).accept)
        self._refusals = Refusals(app.record, f"gateway:{secrets.token_hex(8)}")
        hooks = app.settings.webhooks.items()
        self.ingress = Ingress(
            hooks=Hooks(hook_of(name, hook, app.definition(hook.process)) for name, hook in hooks),
            record=app.record,
            writer=self._writer,
            refusals=self._refusals,
            slots=ConcurrencyLimit(app.settings.gateway.in_flight),
            settings=app.settings.gateway,
            measures=app.measures,
        )
        self._readiness = Readiness(
            app.record, self._writer, app.settings.prefect.api_url, processes=not app.hindrances()
        )
        self._exposition = Exposition(app.measures, app.record)

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
            await self._readiness.end()

    async def live(self, _request: Request) -> Response:
        """Say that this process runs."""
        return JSONResponse({"live": True})

    async def ready(self, _request: Request) -> Response:
        """Say whether the service does its work, as a whole and part by part; Prefect is not needed for it."""
        found = await self._readiness.look()
        return _state({"ready": found.ready, **vars(found)}, ready=found.ready)

    async def ready_for_hooks(self, _request: Request) -> Response:
        """Say whether calls can be accepted, for whoever chooses among gateways; no worker is needed for it."""
        found = await self._readiness.look()
        return _state({"ready": found.hooks}, ready=found.hooks)

    async def metrics(self, _request: Request) -> Response:
        """Return all metrics."""
        return Response(await asyncio.to_thread(self._exposition.text), media_type=CONTENT_TYPE)

    async def describe(self, _request: Request) -> Response:
        """Describe this interface."""
        return JSONResponse(document())

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(REFUSALS_EVERY_SECONDS)
            await asyncio.to_thread(self._write_down_refusals)

    def _write_down_refusals(self) -> None:
        try:
            self._refusals.write_down()
        except Exception as exc:  # noqa: BLE001 - they are kept for the next time
            logger.warning("Refused calls could not be put on the record: %s", type(exc).__name__)


def _state(body: dict[str, bool], *, ready: bool) -> Response:
    return JSONResponse(body, status_code=200 if ready else 503)


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
        Route("/hooks/{path:any}", gateway.ingress.receive, methods=["POST"]),
        Route("/live", gateway.live),
        Route("/ready", gateway.ready),
        Route("/ready/hooks", gateway.ready_for_hooks),
        Route("/metrics", gateway.metrics),
        Route("/openapi.json", gateway.describe),
    ]
    web = Starlette(routes=routes, lifespan=gateway.lifespan)
    web.router.redirect_slashes = False
    return web
