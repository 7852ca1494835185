"""``orchestrator connections``: list them, and let a person grant access."""

from __future__ import annotations

import secrets
import sys
from datetime import datetime, timedelta
from typing import Any

from cyclopts import App

from orchestrator.bindings.guard import ConnectionState
from orchestrator.bindings.health import UnhealthyConnection
from orchestrator.bootstrap import Application, application, recorded
from orchestrator.cli.output import Json, say, say_text, show
from orchestrator.cli.subscriptions import hooks, reconcile
from orchestrator.errors import ConfigurationError, PluginError
from orchestrator.plugins.authorization import Authorizable
from orchestrator.record.clock import moment

UNTRIED = "untried"
"""What is shown of a connection that has never been called."""
connections = App(name="connections", help="List the connections; grant one access to its system; keep its hooks.")
connections.command(hooks)
connections.command(reconcile)


@connections.default
def listed(*, json: Json = False) -> None:
    """List the connections: which connector, which capabilities, how the last calls went, and which probes are proven.

    Example: ``orchestrator connections``

    Args:
        json: Print JSON.
    """
    app = recorded()
    ailing = {each.connection: each for each in app.health.ailing()}
    now = app.record.clock()
    known = app.health.known()
    rows = [{**_row(app, name), **_state(ailing.get(name), now, is_known=name in known)} for name in app.connections]
    columns = ("connection", "state", "lasting", "reason", "connector", "provides", "probes", "version")
    show(rows, columns, as_json=json, empty="No connections.")


@connections.command
def authorize(name: str, *, port: int = 0, minutes: float = 10) -> None:
    """Grant a connection access in a browser, and store its token.

    Prints an address to open in any browser, and waits for the answer on this machine. If the browser runs on another
    machine, either forward the port first (ssh -L PORT:127.0.0.1:PORT this-machine), or let the browser fail to open
    its last address and call that address here (curl 'ADDRESS').

    Example: ``orchestrator connections authorize crm --port 8765``

    Args:
        name: The connection.
        port: Wait on this port of 127.0.0.1; 0 for any that is free.
        minutes: Wait so long for the answer.
    """
    from orchestrator.cli.loopback import Loopback

    connection = application().connections.get(name)
    if not isinstance(connection, Authorizable):
        raise ConfigurationError(f'connection "{name}" has no access to grant: its credential stands in its settings')
    with Loopback(secrets.token_urlsafe(32), port=port) as loopback:
        url = connection.authorization_url(loopback.redirect_uri, loopback.state)
        say_text(
            f"Open this address in a browser, and grant access:\n\n{url}\n\nWaiting on {loopback.redirect_uri} ..."
        )
        sys.stdout.flush()
        code = loopback.wait(timedelta(minutes=minutes))
    say(connection.redeem(code, loopback.redirect_uri))


def _row(app: Application, name: str) -> dict[str, Any]:
    connector = app.connections.connector_of(name)
    return {
        "connection": name,
        "connector": connector.name,
        "provides": [capability.name for capability in app.connections.capabilities_of(name)],
        "version": app.connections.version_of(name),
        "probes": _probes(app, name),
    }


def _probes(app: Application, name: str) -> list[str]:
    """Tell the state of each probe, unless the connection cannot be built: that, ``check`` explains."""
    try:
        return [f"{operation} {state}" for operation, state in app.proofs.states(name).items()]
    except (ConfigurationError, PluginError):
        return []


def _state(ailing: UnhealthyConnection | None, now: datetime, *, is_known: bool) -> dict[str, Any]:
    if ailing is None:
        state = ConnectionState.WORKING if is_known else UNTRIED
        return {"state": state, "since": None, "lasting": None, "reason": ""}
    lasting = now - moment(ailing.since)
    return {"state": ailing.state, "since": ailing.since, "lasting": lasting, "reason": ailing.reason}
