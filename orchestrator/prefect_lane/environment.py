"""Points Prefect at the server of our configuration."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MappingProxyType

import httpx

from orchestrator.prefect_lane.auth import VARIABLE, auth_string
from orchestrator.settings import Settings

HEALTH_TIMEOUT_SECONDS = 2.0

QUIET: Mapping[str, str] = MappingProxyType(
    {
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",  # a run must never start a server of its own
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",  # results belong to the record
        "PREFECT_WORKER_QUERY_SECONDS": "10",  # events wake the worker; the poll is for what they miss
        "PREFECT_CLIENT_MAX_RETRIES": "2",  # what Prefect misses, the record holds
    }
)


SERVER: Mapping[str, str] = MappingProxyType(
    {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Its own pages are of its own origin; a page of any other gets no leave to read.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "",
        "PREFECT_UI_API_URL": "/api",  # the pages work under whatever name they were opened
        # Logs and tables of steps whose flow run was deleted ([retention] prefect_days) go, too; flow runs are deleted
        # by our worker alone, because only the record knows which ones still wait for somebody.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,orphans",
    }
)


def prefect_environment(api_url: str) -> dict[str, str]:
    """Return the environment of a process that talks to this Prefect server."""
    return {**QUIET, "PREFECT_API_URL": api_url}


def server_environment(api_url: str, home: Path) -> dict[str, str]:
    """Return the environment of a Prefect server of ours.

    Its database is SQLite with a write-ahead log, unless ``PREFECT_SERVER_DATABASE_CONNECTION_URL`` is set; nothing is
    sent anywhere.

    Args:
        api_url: Where its API is found.
        home: Where its database lies.
    """
    return {
        **prefect_environment(api_url),
        **SERVER,
        "PREFECT_HOME": str(home),
        "PREFECT_UI_STATIC_DIRECTORY": str(home / "ui"),  # by default it writes where it is installed
    }


def point_prefect_at(settings: Settings) -> None:
    """Set Prefect's environment in this process; it counts from Prefect's import on."""
    for name, value in prefect_environment(settings.prefect.api_url).items():
        os.environ.setdefault(name, value)
    os.environ["PREFECT_API_URL"] = settings.prefect.api_url
    if auth := auth_string(settings):
        os.environ[VARIABLE] = auth


@contextmanager
def prefect_at(settings: Settings) -> Iterator[None]:
    """Use the Prefect server of a configuration for a block, even if Prefect was imported with another one in mind."""
    if "prefect" not in sys.modules:
        point_prefect_at(settings)
    from prefect.settings import (
        PREFECT_API_AUTH_STRING,
        PREFECT_API_URL,
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
        get_current_settings,
        temporary_settings,
    )

    api_url, auth, now = settings.prefect.api_url, auth_string(settings), get_current_settings().api
    if now.url == api_url and (now.auth_string and now.auth_string.get_secret_value()) == auth:
        yield
        return
    ours = {PREFECT_API_URL: api_url, PREFECT_API_AUTH_STRING: auth, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False}
    with temporary_settings(ours):
        yield


def prefect_answers(api_url: str) -> bool:
    """Tell whether the Prefect server is there."""
    try:
        return _http().get(f"{api_url}/health").is_success
    except httpx.HTTPError:
        return False


@cache
def _http() -> httpx.Client:
    """Return a client, made once: to make one reads all certificates, which takes longer than the call."""
    return httpx.Client(timeout=HEALTH_TIMEOUT_SECONDS)
