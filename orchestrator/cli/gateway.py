"""``orchestrator gateway``."""

from __future__ import annotations

from orchestrator.bootstrap import application
from orchestrator.cli.running import log_to_stderr


def gateway() -> None:
    """Take webhooks in, until stopped (Ctrl-C, SIGTERM)."""
    from orchestrator.gateway.serving import serve

    log_to_stderr()
    serve(application())
