"""Deletes what the configuration says is kept no longer, while the worker has other things to do."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Event

import httpx

from orchestrator.bootstrap import Application
from orchestrator.prefect_lane.auth import auth_string, headers
from orchestrator.prefect_lane.vacuum import PrefectRetention
from orchestrator.retention import InboxRetention

EVERY_SECONDS = 3600.0
CALL_SECONDS = 10.0
REST = 4.0
"""After each batch there is a rest so many times as long as the batch took."""
logger = logging.getLogger(__name__)


def vacuum(app: Application, stop: Event) -> None:
    """Delete what is old, at the start and each hour, until the worker stops."""
    keep = app.settings.retention
    passes: list[Callable[[], None]] = []
    if keep.inbox_days:
        passes.append(lambda: _vacuum_inbox(InboxRetention(app.record, keep.inbox_days), stop))
    if keep.prefect_days:
        passes.append(lambda: _vacuum_prefect(app, stop))
    while not stop.is_set():
        for each in passes:
            _attempt(each)
        stop.wait(EVERY_SECONDS)


def _attempt(one_pass: Callable[[], None]) -> None:
    try:
        one_pass()
    except httpx.HTTPError as exc:
        logger.info("Prefect does not delete now (%s); tried again in an hour", type(exc).__name__)
    except Exception as exc:  # noqa: BLE001 - the next round tries again; a batch is deleted whole or not at all
        logger.error("What is old cannot be deleted: %s", type(exc).__name__)  # noqa: TRY400 - may hold what was asked


def _vacuum_inbox(retention: InboxRetention, stop: Event) -> None:
    deleted = 0
    while not stop.is_set():
        began = time.monotonic()
        done = retention.vacuum().deliveries
        if not done:
            break
        deleted += done
        stop.wait(REST * (time.monotonic() - began))
    if deleted:
        logger.info("%d bodies of deliveries were deleted (%s)", deleted, retention.rule)


def _vacuum_prefect(app: Application, stop: Event) -> None:
    login = headers(auth_string(app.settings))
    with httpx.Client(base_url=app.settings.prefect.api_url, headers=login, timeout=CALL_SECONDS) as http:
        retention = PrefectRetention(app, http)
        if deleted := retention.vacuum(stop.wait):
            logger.info("%d flow runs were deleted in Prefect (%s)", deleted, retention.rule)
