"""``orchestrator up``: the whole service, from one configuration."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import anyio
import httpx

from orchestrator.logs import Form
from orchestrator.metrics import Measures, share
from orchestrator.metrics.sharing import clear
from orchestrator.prefect_lane.auth import how_to_sign_in
from orchestrator.service.children import children_of
from orchestrator.service.lock import locked
from orchestrator.service.supervision import Supervisor
from orchestrator.service.systemd import keep_notifying
from orchestrator.settings import Settings

FIRST_LOOK_SECONDS = 0.25
LONGEST_LOOK_SECONDS = 10.0
SLOWER = 1.2
"""Each look comes later than the one before by so much."""
METRICS = "metrics"
"""The folder below ``[service] data`` where processes share what they measure."""
_EVERY_INTERFACE = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - no address to listen at, but one to be told
logger = logging.getLogger(__name__)


def up(settings: Settings, form: Form) -> int:
    """Run the service until it is told to stop (SIGTERM, SIGINT, SIGHUP).

    Args:
        settings: The configuration.
        form: How the log is written.

    Returns:
        The exit code: 1 if a process could not start.

    Raises:
        ConfigurationError: The data folder is in use, or Prefect's address is.
    """
    with locked(settings.service.data) as lock:
        metrics = settings.service.data / METRICS
        share(metrics)
        clear(metrics)
        supervisor = Supervisor(
            children_of(settings, form),
            form=form,
            lock=lock,
            stop_seconds=settings.service.stop_seconds,
            restarted=Measures().restarted,
        )
        _tell(settings, form)
        anyio.run(_serve, supervisor, settings)
    return 1 if supervisor.failed else 0


def gateway_url(settings: Settings) -> str:
    """Return where the gateway of this machine takes webhooks in."""
    return _url(settings.gateway.host, settings.gateway.port)


def status_url(settings: Settings) -> str:
    """Return where the gateway of this machine says how it is."""
    return _url(settings.gateway.status_host, settings.gateway.status_port)


def _url(host: str, port: int) -> str:
    return f"http://{'127.0.0.1' if host in _EVERY_INTERFACE else host}:{port}"


async def _serve(supervisor: Supervisor, settings: Settings) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_stop_on_signal, supervisor)
        group.start_soon(keep_notifying)
        group.start_soon(_see_ready, supervisor, status_url(settings))
        await supervisor.run()
        group.cancel_scope.cancel()
    logger.info("Everything has stopped")


async def _stop_on_signal(supervisor: Supervisor) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async for number in signals:
            logger.info("Told to stop (%s)", signal.Signals(number).name)
            supervisor.stop()


async def _see_ready(supervisor: Supervisor, status: str) -> None:
    """Say when the service is ready, and when Prefect is there too."""
    began = time.monotonic()
    async with httpx.AsyncClient(base_url=status, trust_env=False, timeout=LONGEST_LOOK_SECONDS) as client:
        supervisor.was_ready = await _seen(client, lambda found: found["ready"])
        logger.info("Ready after %.1f s", time.monotonic() - began)
        await _seen(client, lambda found: found["prefect"])
        logger.info("Prefect is there after %.1f s", time.monotonic() - began)


async def _seen(client: httpx.AsyncClient, condition: Callable[[dict[str, bool]], bool]) -> bool:
    pause = FIRST_LOOK_SECONDS
    while True:
        with suppress(httpx.TransportError):
            if condition((await client.get("/ready")).json()):
                return True
        await anyio.sleep(pause)
        pause = min(pause * SLOWER, LONGEST_LOOK_SECONDS)


def _tell(settings: Settings, form: Form) -> None:
    """Say where everything is."""
    status = status_url(settings)
    hooks = ", ".join(sorted(settings.webhooks)) or "none is configured"
    served = how_to_sign_in(settings) if settings.prefect.is_served else "not run by this command"
    lines = (
        f"Prefect UI   {settings.prefect.ui_url} ({served})",
        f"Webhooks     {gateway_url(settings)}/hooks/NAME ({hooks})",
        f"Readiness    {status}/ready",
        f"Metrics      {status}/metrics",
        f"Data         {settings.service.data.absolute()}",
    )
    if form is Form.JSON:
        for line in lines:
            logger.info(" ".join(line.split()))
        return
    stop = f"Ctrl-C or SIGTERM stops everything within {settings.service.stop_seconds:g} s."
    sys.stdout.write("\n".join([*lines, stop, ""]))
    sys.stdout.flush()
