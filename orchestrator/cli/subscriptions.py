"""``orchestrator connections hooks`` and ``reconcile``: what a system tells us of, and what it has failed to tell."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

from cyclopts import Parameter

from orchestrator.bootstrap import Application, application, recorded
from orchestrator.cli.output import Json, print_json, say, show
from orchestrator.errors import ConfigurationError
from orchestrator.plugins.subscriptions import Subscribable, Subscription

SECRET_LENGTH = 32
"""A part of an address that is so long is the secret of an unsigned webhook."""


def hooks(
    name: str,
    *,
    subscribe: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = (),
    verify: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> int:
    """List what a connection's system sends to webhooks. Exit code 1 if any of it does not work.

    Example: ``orchestrator connections hooks crm --verify``

    Args:
        name: The connection.
        subscribe: An address, and the events that are to be sent to it: ADDRESS EVENT...
        verify: Ask the system to verify again what does not work.
        json: Print JSON.
    """
    connection = _subscribable(application(), name)
    if subscribe:
        url, *events = subscribe
        if not events or not url.startswith(("https://", "http://")):
            raise ConfigurationError("--subscribe takes an address and one event or more: --subscribe ADDRESS EVENT...")
        for event in events:
            connection.subscribe(url, event)
    if verify:
        for hook in connection.subscriptions():
            if not hook.works:
                connection.verify(hook.key)
    found = connection.subscriptions()
    columns = ("key", "event", "address", "state", "works")
    show([_row(hook) for hook in found], columns, as_json=json, empty="No hooks.")
    return 0 if all(hook.works for hook in found) else 1


def reconcile(name: str, webhook: str, *, hours: float = 24, json: Json = False) -> None:
    """Ask a connection's system what it should have told a webhook, and take in what it has not.

    What was missed is stored as if it had been sent; its runs are executed by the worker.

    Example: ``orchestrator connections reconcile crm crm_orders --hours 48``

    Args:
        name: The connection.
        webhook: The webhook, by its name in the configuration.
        hours: How far back.
        json: Print JSON.
    """
    from orchestrator.gateway.backfill import reconcile

    app = recorded()
    found = reconcile(app, _subscribable(app, name), webhook, app.record.clock() - timedelta(hours=hours))
    if json:
        print_json(found._asdict())
    else:
        say(f"{found.changes} changes, {found.missed} of them missed and taken in now.")


def _subscribable(app: Application, name: str) -> Subscribable:
    connection = app.connections.get(name)
    if not isinstance(connection, Subscribable):
        raise ConfigurationError(f'connection "{name}" has no hooks to keep: its system cannot be asked for them')
    return connection


def _row(hook: Subscription) -> dict[str, Any]:
    return {
        "key": hook.key,
        "event": hook.event,
        "address": _without_secret(hook.url),
        "state": hook.state,
        "works": hook.works,
    }


def _without_secret(url: str) -> str:
    """Hide what must not stand on a screen or in a log: the secret part of an unsigned webhook's address."""
    parts = urlsplit(url)
    path = "/".join("…" if len(part) >= SECRET_LENGTH else part for part in parts.path.split("/"))
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, "…" if parts.query else "", ""))
