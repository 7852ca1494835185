"""``orchestrator plugins``, ``processes`` and ``check``: what there is, and does it work."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from orchestrator.bindings import HOST, ConnectionCheck, check_connections
from orchestrator.bootstrap import Application, application, installed
from orchestrator.cli.output import Json, fields, print_json, say, show
from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.prefect_lane.auth import left_open, refused


def plugins(*, json: Json = False) -> None:
    """List the plug-ins, what they offer, and what is wrong with broken ones.

    Example: ``orchestrator plugins``

    Args:
        json: Print JSON.
    """
    app = installed()
    _load_all(app)
    rows = [fields(report) for report in app.plugins.reports]
    show(rows, ("name", "state", "offers", "problem", "distribution", "version"), as_json=json, empty="No plug-ins.")


def processes(process: str | None = None, *, json: Json = False) -> None:
    """List the processes and what answers their needs, or show the form of one.

    Example: ``orchestrator processes lost-download``

    Args:
        process: The process whose form to show.
        json: Print JSON.
    """
    app = installed()
    if process is None:
        rows = [_process(app, name) for name in sorted(app.processes)]
        show(rows, ("process", "title", "needs", "schedule"), as_json=json, empty="No processes.")
        return
    form = app.definition(process).request.model_json_schema()
    if json:
        print_json(form)
        return
    say(app.definition(process).title)
    say()
    for name, field in form["properties"].items():
        needed = "" if name in form.get("required", ()) else " (optional)"
        say(f"  --{name.replace('_', '-')}{needed}")
        say(f"      {field.get('description', field.get('title', ''))}")


def check(*, json: Json = False) -> int:
    """Check that everything fits together and that every connection works. Exit code 1 on any problem.

    Example: ``orchestrator check --json``

    Args:
        json: Print JSON.
    """
    app = application()
    _load_all(app)
    problems = [str(problem) for problem in app.connections.compatibility(app.plugins.processes())]
    problems += [
        f'plug-in "{report.name}": {report.problem}' for report in app.plugins.reports if report.state == "broken"
    ]
    problems += refused(app.settings)
    rows = [
        {"connection": found.name, "connector": found.connector, "works": found.ok, "seen": _seen(app, found)}
        for found in check_connections(app.connections)
    ]
    if (host := _host(app))["works"]:
        for row in rows:
            if row["works"]:
                app.health.answered(str(row["connection"]))
    rows.append(host)
    lease = timedelta(seconds=app.settings.worker.lease_seconds)  # also where no record opens
    advice = [*_advice(app), *app.connections.slower_than(lease), *left_open(app.settings)]
    if json:
        print_json({"problems": problems, "advice": advice, "connections": rows})
    else:
        show(rows, ("connection", "connector", "works", "seen"), as_json=False, empty="")
        for problem in problems:
            say(f"Problem: {problem}")
        for each in advice:
            say(f"Advice: {each}")
        say("Everything fits." if not problems and all(row["works"] for row in rows) else "Not everything works.")
    return 0 if not problems and all(row["works"] for row in rows) else 1


def _advice(app: Application) -> list[str]:
    """Say what works, and would work better otherwise."""
    return [
        f"{app.settings.where('mailboxes', name, 'authserv_id')}: write the name that your mail server writes first in "
        "Authentication-Results, so that forged senders are told from customers (docs/mail.md)"
        for name, mailbox in app.settings.mailboxes.items()
        if mailbox.authserv_id is None
    ]


def _seen(app: Application, found: ConnectionCheck) -> str:
    """Add to what was seen of a connection which of its probes are not believed yet."""
    try:
        return "; ".join([found.sentence, *(app.proofs.sentences(found.name) if found.ok else ())])
    except OrchestratorError:  # that the record cannot be read, its own line says
        return found.sentence


def _host(app: Application) -> dict[str, Any]:
    """See the record, whatever else does not work."""
    try:
        seen, works = app.people.check(), True
    except OrchestratorError as exc:
        seen, works = str(exc), False
    return {"connection": HOST, "connector": "host", "works": works, "seen": seen}


def _load_all(app: Application) -> None:
    app.plugins.connectors()
    app.plugins.processes()


def _process(app: Application, name: str) -> dict[str, Any]:
    definition = app.definition(name)
    schedule = app.settings.schedule_of(name, definition.schedule)
    capabilities = app.plugins.capabilities()
    answers = {need: _answer(app, name, capabilities.of(kind).name) for need, kind in definition.needs.items()}
    return {
        "process": name,
        "title": definition.title,
        "version": definition.version,
        "needs": [f"{need} from {connection}" for need, connection in answers.items()],
        "schedule": f"{schedule.rhythm} ({schedule.timezone})" if schedule else None,
    }


def _answer(app: Application, process: str, capability: str) -> str:
    try:
        return app.connections.connection_for(process, capability)
    except ConfigurationError:
        return "nothing (see: orchestrator check)"
