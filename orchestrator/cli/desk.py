"""``orchestrator decisions`` and ``runs``: what waits for a person, and what became of it."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import App, Parameter

from orchestrator.bootstrap import recorded, this_user
from orchestrator.capabilities import Decision
from orchestrator.cli.output import Json, Several, cell, each, fields, print_json, say, show
from orchestrator.desk.answers import held_runs
from orchestrator.desk.people import OpenQuestion
from orchestrator.errors import ConfigurationError, NotRecorded
from orchestrator.kernel.cancelling import cancel as cancel_run
from orchestrator.kernel.runs import RunState

decisions = App(name="decisions", help="Questions that runs ask, and their answers.")
runs = App(name="runs", help="Runs and where they stand.")


@decisions.default
def open_decisions(*, json: Json = False) -> None:
    """List the questions that wait for an answer.

    Args:
        json: Print JSON.
    """
    rows = [_row(waiting) for waiting in recorded().people.open_questions()]
    columns = ("question_id", "title", "role", "waiting", "due_at", "overdue", "options")
    show(rows, columns, as_json=json, empty="Nobody waits for a decision.")


@decisions.command(name="show")
def show_decision(question: str, *, json: Json = False) -> None:
    """Show a question, what is known, and how it can be answered.

    Args:
        question: The question's id.
        json: Print JSON.
    """
    waiting = recorded().people.find(question)
    if json:
        print_json(_row(waiting))
        return
    say(f"{waiting.question.title}\n\n{waiting.question.known}\n")
    for name in ("role", "waiting", "due_at", "otherwise", "run_id", "case_id"):
        if value := _row(waiting)[name]:
            say(f"{name.removesuffix('_id').replace('_', ' ')}: {cell(value)}")
    say("\nAnswers:")
    for option in waiting.question.options:
        text = f" --text '({option.needs_text})'" if option.needs_text else ""
        say(f"  orchestrator decisions answer {question} {option.key}{text}\n      {option.label}")


def _row(waiting: OpenQuestion) -> dict[str, Any]:
    question = waiting.question
    return {
        **fields(waiting),
        "title": question.title,
        "otherwise": question.otherwise,
        "options": [option.key for option in question.options],
    }


@decisions.command
def answer(question: str, option: str, *, text: str = "") -> None:
    """Answer a question; its run goes on.

    Args:
        question: The question's id.
        option: The key of one of its options.
        text: What the option asks for.
    """
    recorded().people.answer(question, Decision(option=option, text=text), this_user())
    say("Recorded. The worker goes on with the run.")


@runs.default
def listed_runs(
    *,
    state: RunState | None = None,
    customer: str | None = None,
    lines: Annotated[int, Parameter(name=["-n", "--lines"])] = 20,
    json: Json = False,
) -> None:
    """List runs, newest first.

    Args:
        state: Only runs in this state; ``parked`` ones wait for a person.
        customer: Only runs about the customer with this address.
        lines: At most so many.
        json: Print JSON.
    """
    app = recorded()
    subject_ref = None
    if customer is not None:
        with app.record.store.read() as tx:
            subject_ref = app.record.vault.find(tx, customer)
        if subject_ref is None:
            raise NotRecorded("no run is about a customer with that address")
    rows = [fields(run) for run in app.runs.listed(state=state, subject_ref=subject_ref, limit=lines)]
    columns = ("run_id", "process", "state", "created_at", "due_at", "ended_at", "case_id", "reason")
    show(rows, columns, as_json=json, empty="No such run." if state or customer else "No runs yet.")


@runs.command
def resume(runs: Several = (), /, *, held: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Let parked or failed runs go on, after you have mended what stopped them.

    Args:
        runs: The ids of the runs.
        held: All runs whose automatic mail was held and still lies on somebody's desk.
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
    """Cancel a run; one that is under way stops before its next step.

    Args:
        run: The run's id.
    """
    at_once = cancel_run(recorded().record, run, this_user())
    say("Cancelled." if at_once else "It stops before its next step; if it has none left, it ends as it would have.")
