"""``orchestrator connections hooks``: what a system tells us of, where to, and whether it still does."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

from cyclopts import Parameter

from orchestrator.bootstrap import application
from orchestrator.cli.output import Json, show
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

    Args:
        name: The connection.
        subscribe: An address, and the events that are to be sent to it: ADDRESS EVENT...
        verify: Ask the system to verify again what does not work.
        json: Print JSON.
    """
    connection = application().connections.get(name)
    if not isinstance(connection, Subscribable):
        raise ConfigurationError(f'connection "{name}" has no hooks to keep: its system cannot be asked for them')
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
