"""``orchestrator up``, its parts ``orchestrator gateway`` and ``orchestrator worker``, and ``orchestrator ready``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from orchestrator.bootstrap import Application, application
from orchestrator.cli.output import Json, print_json, say
from orchestrator.config_file import find_config
from orchestrator.logs import Form, configure, form_for, hide
from orchestrator.prefect_lane.environment import point_prefect_at
from orchestrator.settings import load_settings

READY_SECONDS = 10.0
Log = Annotated[
    Form | None,
    Parameter(name="--log", help="How the log is written; by default, text on a terminal and JSON lines elsewhere."),
]

OnlyRuns = Annotated[
    bool, Parameter(negative="", help="Execute runs and nothing else, beside a worker that does the rest.")
]


def up(*, log: Log = None) -> int:
    """Run gateway, worker and Prefect's server, start again what dies, and stop all of it at SIGTERM.

    Example: ``orchestrator up --log json``

    Args:
        log: How the log is written.
    """
    from orchestrator.service.up import up

    form = form_for(log)
    settings = load_settings(find_config())
    hide(settings.secrets())
    configure("up", form)
    return up(settings, form)


def gateway(*, log: Log = None) -> None:
    """Take webhooks in, until stopped (Ctrl-C, SIGTERM).

    Example: ``orchestrator gateway --log text``

    Args:
        log: How the log is written.
    """
    app = _part("gateway", log)
    from orchestrator.gateway.serving import serve

    serve(app)


def worker(*, only_runs: OnlyRuns = False, log: Log = None) -> None:
    """Take mail in and execute runs, until stopped (Ctrl-C, SIGTERM).

    Example: ``orchestrator worker --only-runs``

    Args:
        only_runs: Execute runs and do nothing else, beside a worker that does.
        log: How the log is written.
    """
    app = _part("worker", log)
    point_prefect_at(app.settings)
    from orchestrator.worker.main import work

    work(app, only_runs=only_runs)


def ready(*, json: Json = False) -> int:
    """Ask the gateway of this machine whether the service does its work; exit code 0 if it does.

    Example: ``orchestrator ready``

    Args:
        json: Print JSON.
    """
    import httpx

    from orchestrator.service.up import status_url

    url = status_url(load_settings(find_config()))
    try:
        found = httpx.get(f"{url}/ready", timeout=READY_SECONDS, trust_env=False).json()
    except (httpx.TransportError, ValueError):
        found = {"ready": False, "gateway": False}
    if json:
        print_json(found)
    else:
        say("Ready." if found["ready"] else f"Not ready: {', '.join(_missing(found))}.")
    return 0 if found["ready"] else 1


def _part(name: str, log: Form | None) -> Application:
    """Set up one of the processes of the service: its log, and what it measures."""
    from orchestrator.metrics import share
    from orchestrator.service.up import METRICS

    configure(name, form_for(log))
    app = application()
    share(app.settings.service.data / METRICS)
    return app


def _missing(found: dict[str, bool]) -> list[str]:
    told = {
        "gateway": "the gateway does not answer",
        "hooks": "webhooks cannot be accepted, for the store cannot be written",
        "worker": "no worker is alive",
        "processes": "a process cannot be executed, and its runs wait (see: orchestrator check)",
    }
    return [text for part, text in told.items() if not found.get(part, True)]
