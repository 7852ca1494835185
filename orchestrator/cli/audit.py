"""``orchestrator audit``: what happened, and is it still what was written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import App, Parameter

from orchestrator.bootstrap import recorded
from orchestrator.cli.output import Json, fields, print_json, say, show
from orchestrator.errors import NotRecorded
from orchestrator.kernel.codec import opened
from orchestrator.kernel.consistency import audit
from orchestrator.record.trail import COMMITMENT, Event

app = App(name="audit", help="What happened, from the append-only record.")


@app.command
def tail(*, lines: Annotated[int, Parameter(name=["-n", "--lines"])] = 20, json: Json = False) -> None:
    """Show the newest events of all runs.

    Example: ``orchestrator audit tail -n 100``

    Args:
        lines: How many.
        json: Print JSON.
    """
    record = recorded().record
    with record.store.read() as tx:
        events = record.trail.latest(tx, limit=lines)
    _show(events, ("at", "kind", "run", "what", "connection", "step"), as_json=json)


@app.command(name="show")
def show_run(run: str, *, private: bool = False, json: Json = False) -> None:
    """Show what happened in one run.

    Example: ``orchestrator audit show r-0123456789abcdef01234567 --private``

    Args:
        run: The run's id.
        private: Show private values too (addresses, links); they are decrypted with the key file.
        json: Print JSON.
    """
    record = recorded().record
    with record.store.read() as tx:
        events = record.trail.chain(tx, run)
        if not events:
            raise NotRecorded(f"no run {run}; list them with: orchestrator runs")
        values = record.trail.private_values(tx, [event.event_id for event in events]) if private else None
    _show(events, ("at", "kind", "step", "what", "connection", "actor", "data"), as_json=json, values=values)


@app.command(name="verify")
def verify_trail(*, json: Json = False) -> int:
    """Verify the record: chains and columns, private values, runs and effects. Exit code 1 if anything was changed.

    Example: ``orchestrator audit verify --json``

    Args:
        json: Print JSON.
    """
    found = audit(recorded().record)
    if json:
        print_json(fields(found))
    else:
        say(
            f"{found.events} events in {found.chains} chains; {len(found.breaches)} broken; "
            f"{len(found.mismatches)} private values, runs or effects do not fit"
        )
        for breach in found.breaches:
            say(f"{breach.chain_id} event {breach.chain_seq} ({breach.event_id}): {breach.problem}")
        for mismatch in found.mismatches:
            say(f"{mismatch.where}: {mismatch.problem}")
    return 0 if found.is_sound else 1


def timeline(events: Sequence[Event], values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return events as rows for people.

    Args:
        events: The events.
        values: The private values, if they are to be shown.
    """
    return [_row(event, values) for event in events]


def _show(
    events: Sequence[Event], columns: Sequence[str], *, as_json: bool, values: dict[str, Any] | None = None
) -> None:
    if as_json:
        print_json([{**fields(event), "data": _data(event, values)} for event in events])
    else:
        show(timeline(events, values), columns, as_json=False, empty="The record is empty.")


def _row(event: Event, values: dict[str, Any] | None) -> dict[str, Any]:
    context = event.context
    return {
        "at": event.at.replace("T", " ")[:23],
        "run": context.run_id,
        "kind": event.kind,
        "step": context.step,
        "what": context.title or context.operation or context.process,
        "connection": context.connection,
        "actor": f"{event.actor.name} ({event.actor.auth})",
        "data": told(_data(event, values)),
    }


def _data(event: Event, values: dict[str, Any] | None) -> Any:
    return event.data if values is None else opened(event.data, values)


def told(data: Any) -> str:
    """Return a document in one line, private values as dots."""
    match data:
        case dict() if COMMITMENT in data:
            return "•••"
        case dict():
            return " ".join(f"{key}={told(value)}" for key, value in data.items() if value not in (None, "", [], {}))
        case list():
            return "[" + "; ".join(told(item) for item in data) + "]"
        case _:
            return str(data)
