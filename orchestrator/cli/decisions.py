"""``orchestrator decisions``: the questions that wait for a person."""

from __future__ import annotations

from typing import Any

from cyclopts import App

from orchestrator.bootstrap import recorded, this_user
from orchestrator.builtin.people import OpenQuestion
from orchestrator.capabilities import Decision
from orchestrator.cli.given import Given, given_text
from orchestrator.cli.output import Json, cell, fields, print_json, say, say_text, show

decisions = App(name="decisions", help="Questions that runs ask, and their answers.")


@decisions.default
def open_decisions(*, json: Json = False) -> None:
    """List the questions that wait for an answer.

    Example: ``orchestrator decisions --json``

    Args:
        json: Print JSON.
    """
    rows = [_row(waiting) for waiting in recorded().people.open_questions()]
    columns = ("question_id", "waiting", "title", "overdue", "due_at", "role", "options")
    show(rows, columns, as_json=json, empty="Nobody waits for a decision.")


@decisions.command(name="show")
def show_decision(question: str, *, json: Json = False) -> None:
    """Show a question, what is known, and how it can be answered.

    Example: ``orchestrator decisions show f-0123456789abcdef0123456789abcdef``

    Args:
        question: The question's id.
        json: Print JSON.
    """
    waiting = recorded().people.find(question)
    if json:
        print_json(_row(waiting))
        return
    say(waiting.question.title)
    say_text(f"\n{waiting.question.known}\n")
    for name in ("role", "waiting", "due_at", "otherwise", "run_id", "case_id"):
        if value := _row(waiting)[name]:
            say(f"{name.removesuffix('_id').replace('_', ' ')}: {cell(value)}")
    say()
    say("Answers:")
    for option in waiting.question.options:
        text = " --text -" if option.needs_text else ""
        say(f"  orchestrator decisions answer {question} {option.key}{text}")
        say(f"      {option.label}")
        if option.needs_text:
            say(f"      It asks for: {option.needs_text}")


def _row(waiting: OpenQuestion) -> dict[str, Any]:
    question = waiting.question
    return {
        **fields(waiting),
        "title": question.title,
        "otherwise": question.otherwise,
        "options": [option.key for option in question.options],
    }


@decisions.command
def answer(question: str, option: str, *, text: Given = "") -> None:
    """Answer a question; its run goes on.

    Example: ``orchestrator decisions answer f-0123456789abcdef0123456789abcdef answer --text - < answer.txt``

    Args:
        question: The question's id.
        option: The key of one of its options.
        text: What the option asks for; ``-`` reads it from standard input, to its end.
    """
    text = given_text("--text", text)
    recorded().people.answer(question, Decision(option=option, text=text), this_user())
    say("Recorded. The worker goes on with the run.")
