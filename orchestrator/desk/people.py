"""Questions to people, kept until somebody answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from orchestrator.capabilities import SEAL, Decision, Option, Question
from orchestrator.errors import AwaitingDecision, NotRecorded, RecordError
from orchestrator.kernel.operations import opened
from orchestrator.kernel.runs import wake_parked
from orchestrator.ledger.effects import find_effect
from orchestrator.plugins import DoubtClass, Settlement
from orchestrator.record.clock import stamp
from orchestrator.record.record import Record
from orchestrator.record.sql import insert_if_new
from orchestrator.record.tables import question as question_table
from orchestrator.record.trail import Actor, Context, Draft, Event, Sealer


@dataclass(frozen=True, kw_only=True)
class OpenQuestion:
    """A question that waits for an answer."""

    question_id: str
    run_id: str
    asked_at: str
    question: Question


class PeopleDesk:
    """Puts questions on the desk and picks up the answers.

    Args:
        record: Where questions and answers are written down.
    """

    def __init__(self, record: Record) -> None:
        self._record = record

    def settlement(self, operation: str) -> Settlement:  # noqa: ARG002 - all operations are alike
        """Asking again finds the same question."""
        return Settlement(doubt=DoubtClass.NATURAL)

    def check(self) -> str:
        """Say how many questions are open."""
        return f"{len(self.open_questions())} open questions"

    def decide(self, question: Question, *, effect_id: str | None = None) -> Decision:
        """Return the decision, if somebody made it.

        Raises:
            AwaitingDecision: Nobody has answered yet.
        """
        question_id = str(effect_id)
        with self._record.store.write() as tx:
            effect = find_effect(tx, question_id)
            row = {"question_id": question_id, "run_id": effect.run_id, "asked_at": stamp(self._record.clock())}
            insert_if_new(tx, question_table, row, unique=["question_id"])
            answered = _row(tx, question_id)
            if answered is not None and answered.answer_event is not None:
                return self._decision(tx, answered)
        raise AwaitingDecision(
            f"a person must answer: {question.title}; see: orchestrator decisions show {question_id}"
        )

    def open_questions(self) -> list[OpenQuestion]:
        """Return the questions that wait for an answer, oldest first."""
        chosen = (
            select(question_table).where(question_table.c.answered_at.is_(None)).order_by(question_table.c.asked_at)
        )
        with self._record.store.read() as tx:
            return [self._open_question(tx, row) for row in tx.execute(chosen)]

    def answer(self, question_id: str, decision: Decision, actor: Actor) -> None:
        """Write down what a person decided, and let the run go on.

        Raises:
            NotRecorded: No such question waits.
            RecordError: The decision is none of the options, or lacks the text that its option needs.
        """
        now = self._record.clock()
        with self._record.store.write() as tx:
            row = _row(tx, question_id)
            if row is None or row.answered_at is not None:
                raise NotRecorded(f"no open question {question_id}; list them with: orchestrator decisions")
            _refuse_unfit(self._open_question(tx, row).question, decision)
            sealer = Sealer()
            data = {"answer": decision.model_dump(mode="json", context={SEAL: sealer})}
            asked = self._asked(tx, row)
            context = Context(**{**vars(asked.context), "prefect_run_id": None})
            draft = Draft(kind="decision.made", context=context, data=data, sealer=sealer, actor=actor)
            self._record.trail.append_alone(tx, row.run_id, draft, now)
            event_id = self._record.trail.chain(tx, row.run_id)[-1].event_id
            mine = question_table.c.question_id == question_id
            tx.execute(update(question_table).where(mine).values(answered_at=stamp(now), answer_event=event_id))
            wake_parked(tx, row.run_id, now)

    def _open_question(self, tx: Connection, row: Any) -> OpenQuestion:
        asked = self._asked(tx, row)
        private = self._record.trail.private_values(tx, [asked.event_id])
        question = Question.model_validate(opened(asked.data["request"]["question"], private))
        return OpenQuestion(question_id=row.question_id, run_id=row.run_id, asked_at=row.asked_at, question=question)

    def _asked(self, tx: Connection, row: Any) -> Event:
        events = self._record.trail.chain(tx, row.run_id)
        mine = (e for e in events if e.kind == "effect.intent" and e.context.effect_id == row.question_id)
        return next(mine)

    def _decision(self, tx: Connection, row: Any) -> Decision:
        events = self._record.trail.chain(tx, row.run_id)
        made = next(event for event in events if event.event_id == row.answer_event)
        private = self._record.trail.private_values(tx, [made.event_id])
        return Decision.model_validate(opened(made.data["answer"], private))


def _row(tx: Connection, question_id: str) -> Any:
    return tx.execute(select(question_table).where(question_table.c.question_id == question_id)).one_or_none()


def _refuse_unfit(question: Question, decision: Decision) -> None:
    options: dict[str, Option] = {option.key: option for option in question.options}
    if decision.option not in options:
        raise RecordError(f"{decision.option!r} is no option; choose one of: {', '.join(options)}")
    needed = options[decision.option].needs_text
    if needed and not decision.text.strip():
        raise RecordError(f"option {decision.option} needs a text: {needed}")
