"""Questions to a person: the slowest and dearest system."""

from __future__ import annotations

from typing import Protocol

from orchestrator.capabilities.values import Private, Value, effect


class Option(Value):
    """One way to answer a question."""

    key: str
    label: str
    needs_text: str = ""
    """What the person must write with this option; empty if nothing."""


class Question(Value):
    """What is asked, what is known, and what can be answered."""

    title: str
    """One line without personal data: it is shown in lists."""
    known: Private[str]
    options: tuple[Option, ...]


class Decision(Value):
    """What a person answered."""

    option: str
    text: Private[str] = ""


class People(Protocol):
    """The people who decide what no rule decides."""

    @effect
    def decide(self, question: Question, *, effect_id: str | None = None) -> Decision:
        """Ask a person.

        The run is parked until somebody answers; then it goes on here with the decision.
        """
        ...
