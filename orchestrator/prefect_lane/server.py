"""Prefect's server as we run it: closed to whoever lacks the auth string, and to calls by foreign names.

``PREFECT_HOME=HOME python -m orchestrator.prefect_lane.server HOST PORT API_URL``. It asks for what
``PREFECT_SERVER_API_AUTH_STRING`` says, else for what `orchestrator up` made below its home.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.prefect_lane.auth import SERVER_VARIABLE, made_in
from orchestrator.prefect_lane.environment import server_environment
from orchestrator.private_files import create_privately

POLICY = "connect-src 'self'; frame-ancestors 'none'"
"""Its pages ask no other server (they would ask an analytics host), and no other page may show them."""


def main() -> None:
    """Run the server until it is stopped, as ``prefect server start`` does."""
    create_privately()
    host, port, api_url = sys.argv[1:]
    home = Path(os.environ["PREFECT_HOME"])
    os.environ.update(server_environment(api_url, home))
    os.environ[SERVER_VARIABLE] = os.environ.get(SERVER_VARIABLE) or made_in(home)
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    server = get_current_settings().server
    # A page whose own name was made to lead here (DNS rebinding) counts as the same origin; its name gives it away.
    # Prefect has no setting for that. Around the application: Prefect also calls itself, by another name.
    app = TrustedHostMiddleware(kept_to_itself(create_app(final=True)), names(host, api_url), www_redirect=False)
    uvicorn.run(
        app,
        host=host,
        port=int(port),
        timeout_keep_alive=server.api.keepalive_timeout,
        ws_ping_interval=server.api.websocket_ping_interval,
        ws_ping_timeout=server.api.websocket_ping_timeout,
        log_level=server.logging_level.lower(),
    )


def names(host: str, api_url: str) -> list[str]:
    """Return the names by which the server may be called."""
    known = ["localhost", "127.0.0.1", "::1", host, str(urlsplit(api_url).hostname)]
    return [f"[{name}]" if ":" in name else name for name in known]


def kept_to_itself(app: ASGIApp) -> ASGIApp:
    """Return the application with ``POLICY`` on each of its answers."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = POLICY
            await send(message)

        await app(scope, receive, with_policy)

    return answer


if __name__ == "__main__":
    main()
