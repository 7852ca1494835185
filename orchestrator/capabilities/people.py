"""Questions to a person: the slowest and dearest system."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Literal, Protocol, Self

from pydantic import Field, StringConstraints, model_validator

from orchestrator.capabilities.values import Private, Rendered, Value, effect, is_address

Words = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class Option(Value):
    """One way to answer a question."""

    key: Words
    label: Rendered[Words]
    """What is done if it is chosen, in a few words and without personal data: people choose by it."""
    needs_text: Rendered[str] = ""
    """What the person must write with this option, without personal data; empty if it takes no text."""
    text_is: Rendered[Literal["text", "address"]] = "text"
    """What the text must be: any text, or one plain e-mail address."""

    def unfit(self, text: str) -> str:
        """Say why a text cannot be given with this option, without repeating it; empty if it can."""
        written = text.strip()
        if not self.needs_text:
            return (
                f"option {self.key} sends nobody a text: leave the text out, or choose another one" if written else ""
            )
        if not written:
            return f"option {self.key} needs a text: {self.needs_text}"
        if written.strip("()") == self.needs_text:
            return f"option {self.key}: the text is the description of what to write; write that instead"
        if self.text_is == "address" and not is_address(written):
            return f"option {self.key}: the text is no e-mail address; write one address, such as mary@example.com"
        return ""


class Question(Value):
    """What is asked, what is known, and what can be answered.

    Title, labels and role are shown in lists and in Prefect: they name nobody. While a question waits, all of it
    may be reworded in the process; what was asked stays as it was. Other keys make it another question.
    """

    title: Rendered[str]
    """One line without personal data."""
    known: Private[Rendered[str]]
    """What helps to decide. It may name persons, and is shown by our own commands alone."""
    options: Annotated[tuple[Option, ...], Field(min_length=1)]
    role: Rendered[str] = ""
    """Who should answer, for example ``support``; empty: whoever comes first."""
    due_in: Rendered[timedelta | None] = None
    """How long somebody may take. Later, the question is overdue, and shown as such."""
    otherwise: Rendered[str] = ""
    """The key of the option that is taken when it is overdue; empty: the question waits on."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _refuse_twins("key", (option.key for option in self.options))
        _refuse_twins("label", (option.label for option in self.options))
        if self.due_in is not None and self.due_in <= timedelta():
            raise ValueError("due_in must be more than nothing")
        if self.otherwise:
            self._refuse_unfit_otherwise()
        return self

    def _refuse_unfit_otherwise(self) -> None:
        if self.due_in is None:
            raise ValueError("otherwise says what happens after due_in: give due_in as well")
        if unfit := self.unfit(Decision(option=self.otherwise)):
            raise ValueError(f"otherwise: {unfit}")

    def unfit(self, decision: Decision) -> str:
        """Say why a decision is no answer to this question; empty if it is one."""
        options = {option.key: option for option in self.options}
        if decision.option not in options:
            return f"{decision.option!r} is no option; choose one of: {', '.join(options)}"
        return options[decision.option].unfit(decision.text)


class Decision(Value):
    """What a person answered."""

    option: str
    text: Private[str] = ""


class People(Protocol):
    """The people who decide what no rule decides."""

    @effect
    def decide(self, question: Question) -> Decision:
        """Ask a person.

        The run waits, without a worker, until somebody answers or the deadline takes ``otherwise``; then it
        goes on here with the decision.
        """
        ...


def _refuse_twins(what: str, values: Iterable[str]) -> None:
    seen = list(values)
    if len(set(seen)) != len(seen):
        raise ValueError(f"two options have the same {what}: nobody could tell them apart")
