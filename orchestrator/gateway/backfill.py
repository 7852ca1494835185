"""Hints that a system should have sent to a webhook and that never came: asked for, and put in as if they had come."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlsplit

from orchestrator.bootstrap import Application
from orchestrator.errors import ConfigurationError
from orchestrator.gateway.accepting import Acceptance, Arrival, Outcome
from orchestrator.gateway.hooks import Hook, hook_of
from orchestrator.gateway.mapping import Unfit, read_payload, request_from
from orchestrator.gateway.writer import GROUP
from orchestrator.plugins.subscriptions import Change, Subscribable
from orchestrator.settings import configuration_error
from orchestrator.spelling import suggestion

TOLERANCE = timedelta(seconds=60)
"""A hint may name a moment that is so much earlier than the change: events are sent in batches."""


class Found(NamedTuple):
    """What a look showed."""

    changes: int
    missed: int
    """Those of them that nobody had told us of; they are stored now, and their runs are due."""


def reconcile(app: Application, connection: Subscribable, webhook: str, since: datetime) -> Found:
    """Ask a system what it should have told a webhook since then, and take in what it has not.

    Args:
        app: The application.
        connection: The system.
        webhook: The webhook's name; what is subscribed to its address is looked at.
        since: How far back.

    Raises:
        ConfigurationError: There is no such webhook, it does not fit, or nothing is subscribed to it.
        ConnectorError: The system cannot be asked.
    """
    hook = _hook(app, webhook)
    path = f"/hooks/{webhook}"
    events = {each.event for each in connection.subscriptions() if f"{urlsplit(each.url).path}/".startswith(f"{path}/")}
    if not events:
        raise ConfigurationError(
            f"nothing is sent to {path}: subscribe with orchestrator connections hooks --subscribe"
        )
    changes = [change for event in sorted(events) for change in connection.changes(event, since)]
    told = _told(app, connection, hook, since)
    missed = [change for change in changes if change.key not in told or told[change.key] < change.at - TOLERANCE]
    return Found(len(changes), sum(_take_in(app, hook, missed)))


def _hook(app: Application, webhook: str) -> Hook:
    settings = app.settings.webhooks.get(webhook)
    if settings is None:
        raise ConfigurationError(f'there is no webhook "{webhook}"; {suggestion(webhook, app.settings.webhooks)}')
    if problems := app.connections.webhook_problems(app.plugins.processes()):
        raise configuration_error(problems)
    return hook_of(webhook, settings, app.definition(settings.process))


def _told(app: Application, connection: Subscribable, hook: Hook, since: datetime) -> dict[str, datetime]:
    """Read what came in meanwhile, and of each change the latest that was told."""
    told: dict[str, datetime] = {}
    for body in app.inbox.bodies(hook.source, since - TOLERANCE):
        try:
            payload = read_payload(body)
        except Unfit:
            continue
        for key, at in connection.told(payload).items():
            told[key] = max(at, told.get(key, at))
    return told


def _take_in(app: Application, hook: Hook, missed: list[Change]) -> Iterator[int]:
    acceptance = Acceptance(app.record, app.runs)
    for first in range(0, len(missed), GROUP):
        accepted = acceptance.accept([_arrival(app, hook, change) for change in missed[first : first + GROUP]])
        yield sum(each.outcome is Outcome.ACCEPTED for each in accepted)


def _arrival(app: Application, hook: Hook, change: Change) -> Arrival:
    request, problem = None, ""
    try:
        request = request_from(read_payload(change.payload), hook.sources, hook.process.request)
    except Unfit as exc:
        problem = str(exc)
    key = f"poll-{change.key}-{change.at.timestamp():.0f}"
    now = app.record.clock()
    return Arrival(hook=hook, key=key, body=change.payload, received_at=now, request=request, problem=problem)
