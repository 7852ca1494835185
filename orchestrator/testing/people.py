"""A stand-in for the people who decide."""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from orchestrator.capabilities import Decision, Question
from orchestrator.errors import AwaitingDecision, RecordError
from orchestrator.plugins import DoubtClass, Settlement


class FakePeople:
    """People who answer as they were told to, one answer a question; when none is left, nobody answers.

    Args:
        decisions: The answers, in order.
    """

    settlements: ClassVar = {"decide": Settlement(doubt=DoubtClass.NATURAL)}

    def __init__(self, *decisions: Decision) -> None:
        self.questions: list[Question] = []
        """Every question that was asked, also those that nobody answered."""
        self._decisions = deque(decisions)

    def decide(self, question: Question) -> Decision:
        """Answer a question.

        Raises:
            AwaitingDecision: Nobody was told to answer.
            RecordError: The next answer is none to this question.
        """
        self.questions.append(question)
        if not self._decisions:
            raise AwaitingDecision(f"a person must answer: {question.title}")
        if unfit := question.unfit(self._decisions[0]):
            raise RecordError(unfit)
        return self._decisions.popleft()

    def answer(self, decision: Decision) -> None:
        """Let one more question be answered."""
        self._decisions.append(decision)

    def check(self) -> str:
        """Count the questions."""
        return f"a fake that was asked {len(self.questions)} questions"
