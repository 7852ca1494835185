"""``orchestrator runs``: which there are, and what a person does about them."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from orchestrator.bootstrap import Application, recorded, this_user
from orchestrator.cli.given import Given, given_line
from orchestrator.cli.output import COUNTED, Json, Several, each, fields, say, show
from orchestrator.errors import ConfigurationError, NotRecorded
from orchestrator.kernel.cancellation import cancel as cancel_run
from orchestrator.kernel.runs import RunState
from orchestrator.outbound_limits.answers import held_runs

runs = App(name="runs", help="Runs and where they stand.")


@runs.default
def listed_runs(
    *,
    state: RunState | None = None,
    customer: Given | None = None,
    lines: Annotated[int, Parameter(name=["-n", "--lines"])] = 20,
    json: Json = False,
) -> None:
    """List runs, newest first.

    Example: ``orchestrator runs --state parked``

    Args:
        state: Only runs in this state; ``parked`` ones wait for a person.
        customer: Only runs about the customer with this address; ``-`` reads it from standard input.
        lines: At most so many.
        json: Print JSON.
    """
    app = recorded()
    subject_ref = None if customer is None else _subject(app, given_line("--customer", customer))
    listed = app.runs.listed(state=state, subject_ref=subject_ref, limit=lines)
    now = app.record.clock()
    rows = [{**fields(run), "age": now - run.created_at} for run in listed]
    columns = ("run_id", "age", "state", "reason", "process", "case_id", "created_at", "due_at", "ended_at")
    total = app.runs.count(state=state, subject_ref=subject_ref, at_most=COUNTED)
    show(rows, columns, as_json=json, empty="No such run." if state or customer else "No runs yet.", total=total)


def _subject(app: Application, customer: str) -> str:
    with app.record.store.read() as tx:
        subject_ref = app.record.vault.find(tx, customer)
    if subject_ref is None:
        raise NotRecorded("no run is about a customer with that address")
    return subject_ref


@runs.command
def resume(runs: Several = (), /, *, held: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Let parked or failed runs go on, after you have fixed what stopped them.

    Example: ``orchestrator runs resume r-0123456789abcdef01234567``

    Args:
        runs: The ids of the runs.
        held: All runs whose automatic mail was held and still waits for a person.
    """
    if held == bool(runs):
        raise ConfigurationError("name runs, or say --held")
    app = recorded()

    def go_on(run: str) -> str:
        app.runs.resume(run, this_user())
        return f"Ready: run {run}. The worker goes on with it; steps already done are not repeated."

    return each(runs or held_runs(app.record), go_on)


@runs.command
def cancel(run: str) -> None:
    """Cancel a run; one that is under way stops before its next step, and a failed one is closed.

    To go on with a failed run instead, after its cause is corrected: `orchestrator runs resume`.

    Example: ``orchestrator runs cancel r-0123456789abcdef01234567``

    Args:
        run: The run's id.
    """
    at_once = cancel_run(recorded().record, run, this_user())
    say("Cancelled." if at_once else "It stops before its next step; if it has none left, it ends as it would have.")
