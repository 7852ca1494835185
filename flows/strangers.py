"""Strangers: more people ask for downloads that they did not buy than are asked about one by one."""

from __future__ import annotations

from datetime import timedelta

from orchestrator.capabilities import Cases, Inbox, Option, People, Question, Value
from orchestrator.process import process

KEY = "strangers"
"""What their common case is known by."""
LOOK_IN = timedelta(hours=4)
DONE = Option(key="done", label="I have looked through their mails, and dealt with those who are customers")
QUESTION = Question(
    title="More strangers ask for downloads than are answered one by one",
    known=(
        "No purchase is found for their addresses, and nothing proves that they wrote themselves.\n"
        "Their mails: orchestrator inbox --state for-person\n"
        "Who is a customer with another address: orchestrator run lost-download, with the address on the order\n"
        "File the others: orchestrator inbox close"
    ),
    options=(DONE,),
    role="support",
    due_in=LOOK_IN,
)


class Strangers(Value):
    """Nothing: their mails are in the inbox."""


@process("strangers")
def strangers(request: Strangers, *, people: People) -> None:  # noqa: ARG001 - an input is what processes have
    """Ask a person once to look through the mails of strangers."""
    people.decide(QUESTION)


def leave_to_person(delivery: str, *, inbox: Inbox, cases: Cases) -> None:
    """Put a stranger's mail to the others that wait, and ask a person to look through them, once for all."""
    inbox.keep_for_person(
        delivery, reason="no purchase is found, and more strangers write than are answered one by one"
    )
    case = cases.open_or_join(KEY, delivery=delivery)
    if case.state == "opened":
        cases.start(strangers.work(Strangers()), case_id=case.case_id)
