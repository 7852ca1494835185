"""Questions to people, kept until somebody answers or their deadline does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

from sqlalchemy import Connection

from orchestrator.capabilities import SEAL, Decision, Question
from orchestrator.errors import AwaitingDecision, NotRecorded, RecordError
from orchestrator.kernel import question_store, run_store
from orchestrator.kernel.codec import opened
from orchestrator.kernel.run_times import due_in
from orchestrator.ledger import effect_store
from orchestrator.plugins import DoubtClass, Settlement
from orchestrator.record.clock import moment, stamp
from orchestrator.record.record import Record
from orchestrator.record.trail import SYSTEM, Actor, Draft, Event, Sealer

DEADLINE = Actor(name="deadline", auth="system")
"""Who takes the option that a question names for the case that nobody answers in time."""
BATCH = 100


@dataclass(frozen=True, kw_only=True)
class OpenQuestion:
    """A question that waits for an answer."""

    question_id: str
    run_id: str
    process: str
    case_id: str | None
    role: str
    asked_at: datetime
    due_at: datetime | None
    """Its deadline."""
    overdue: bool
    """Whether the deadline has passed and is on the record as such."""
    waiting: timedelta
    """How long it has waited."""
    question: Question


class HostPeople:
    """Puts questions to people and picks up the answers.

    Args:
        record: Where questions and answers are written down.
    """

    settlements: ClassVar = {"decide": Settlement(doubt=DoubtClass.NATURAL, exact_replay=False)}
    """Asking again finds the same question."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def check(self) -> str:
        """Say how many questions are open."""
        return f"{len(self.open_questions())} open questions"

    def decide(self, question: Question, *, effect_id: str | None = None) -> Decision:
        """Return the decision, if somebody made it.

        Raises:
            AwaitingDecision: Nobody has answered yet.
        """
        question_id, now = str(effect_id), self._record.clock()
        row = {
            "question_id": question_id,
            "asked_at": stamp(now),
            "due_at": stamp(now + question.due_in) if question.due_in else None,
        }
        with self._record.store.write() as tx:
            run_id = effect_store.find(tx, question_id).run_id
            asked = question_store.ask(tx, {**row, "run_id": run_id})
            if asked.answer_event is not None:
                return self._decision(tx, asked)
        raise AwaitingDecision(_reason(question_id, question, moment(asked.due_at) if asked.overdue_at else None))

    def open_questions(self) -> list[OpenQuestion]:
        """Return the questions that wait for an answer, oldest first."""
        with self._record.store.read() as tx:
            return [self._open_question(tx, row) for row in question_store.all_open(tx)]

    def find(self, question_id: str) -> OpenQuestion:
        """Return an open question.

        Raises:
            NotRecorded: No such question waits.
        """
        with self._record.store.read() as tx:
            return self._find(tx, question_id)

    def waiting_of(self, run_id: str) -> OpenQuestion | None:
        """Return the question that keeps a parked run waiting, if it is one."""
        with self._record.store.read() as tx:
            row = question_store.open_of_parked(tx, run_id)
            if row is None or not _parked_by_question(self._record.trail.chain(tx, run_id)):
                return None
            return self._open_question(tx, row)

    def answer(
        self,
        question_id: str,
        decision: Decision,
        actor: Actor,
        *,
        screen: str | None = None,
        reserved_for: timedelta = timedelta(),
    ) -> None:
        """Write down what a person decided, and let the run go on.

        Args:
            question_id: The question.
            decision: The answer.
            actor: Who answers.
            screen: A digest of what they had before them, if that is known.
            reserved_for: So long workers leave the run to the caller, who executes it at once.

        Raises:
            NotRecorded: No such question waits; of several answers the first counts.
            RecordError: The decision is none of the options, or lacks the text that its option needs.
        """
        with self._record.store.write() as tx:
            waiting = self._find(tx, question_id)
            if unfit := waiting.question.unfit(decision):
                raise RecordError(unfit)
            self._make(tx, waiting, decision, actor, screen=screen, reserved_for=reserved_for)

    def pass_deadlines(self) -> int:
        """Put the questions on the record whose deadline has passed, and take the options that they name for it.

        Returns:
            How many; they are found by their deadlines, however many questions wait.
        """
        with self._record.store.read() as tx:
            ids = question_store.overdue(tx, self._record.clock(), BATCH)
        return sum(self._pass_deadline(question_id) for question_id in ids)

    def _pass_deadline(self, question_id: str) -> bool:
        """Note one deadline; False if somebody answers or resumes the run at this very moment."""
        now = self._record.clock()
        try:
            with self._record.store.write() as tx:
                _refuse_unless(question_store.claim_deadline(tx, question_id, now), question_id)
                waiting = self._find(tx, question_id)
                otherwise = waiting.question.otherwise
                reason = _reason(question_id, waiting.question, waiting.due_at)
                _explain_parked(tx, waiting.run_id, reason)
                told = f"nobody answered in time: {waiting.question.title}; so it goes on with: {otherwise}"
                data = {"reason": told if otherwise else reason}
                self._append(tx, waiting, "decision.overdue", data, SYSTEM)
                if otherwise:
                    self._make(tx, waiting, Decision(option=otherwise), DEADLINE)
        except (_Elsewhere, NotRecorded):
            return False
        return True

    def _make(
        self,
        tx: Connection,
        waiting: OpenQuestion,
        decision: Decision,
        actor: Actor,
        *,
        screen: str | None = None,
        reserved_for: timedelta = timedelta(),
    ) -> None:
        now, sealer = self._record.clock(), Sealer()
        _refuse_unless(question_store.claim_answer(tx, waiting.question_id, now), waiting.question_id)
        run_store.wake(tx, waiting.run_id, due_in(self._record, reserved_for))
        data = {
            "answer": decision.model_dump(mode="json", context={SEAL: sealer}),
            "waited_seconds": int(waiting.waiting.total_seconds()),
            "screen": screen,
        }
        self._append(tx, waiting, "decision.made", data, actor, sealer)
        event_id = self._record.trail.chain(tx, waiting.run_id)[-1].event_id
        question_store.note_answer(tx, waiting.question_id, event_id)

    def _append(
        self,
        tx: Connection,
        waiting: OpenQuestion,
        kind: str,
        data: dict[str, Any],
        actor: Actor,
        sealer: Sealer | None = None,
    ) -> None:
        asked = self._asked(tx, waiting.run_id, waiting.question_id)
        context = replace(asked.context, prefect_run_id=None)
        draft = Draft(kind=kind, context=context, data=data, actor=actor, sealer=sealer or Sealer())
        self._record.trail.append_alone(tx, waiting.run_id, draft, self._record.clock())

    def _find(self, tx: Connection, question_id: str) -> OpenQuestion:
        row = question_store.find_open(tx, question_id)
        if row is None:
            raise NotRecorded(_why_closed(question_store.find(tx, question_id), question_id))
        return self._open_question(tx, row)

    def _open_question(self, tx: Connection, row: Any) -> OpenQuestion:
        asked = self._asked(tx, row.run_id, row.question_id)
        private = self._record.trail.private_values(tx, [asked.event_id])
        question = Question.model_validate(opened(asked.data["request"]["question"], private))
        asked_at = moment(row.asked_at)
        return OpenQuestion(
            question_id=row.question_id,
            run_id=row.run_id,
            process=row.process,
            case_id=row.case_id,
            role=question.role,
            asked_at=asked_at,
            due_at=moment(row.due_at) if row.due_at else None,
            overdue=row.overdue_at is not None,
            waiting=timedelta(seconds=(self._record.clock() - asked_at) // timedelta(seconds=1)),
            question=question,
        )

    def _asked(self, tx: Connection, run_id: str, question_id: str) -> Event:
        events = self._record.trail.chain(tx, run_id)
        return next(e for e in events if e.kind == "effect.intent" and e.context.effect_id == question_id)

    def _decision(self, tx: Connection, row: Any) -> Decision:
        events = self._record.trail.chain(tx, row.run_id)
        made = next(event for event in events if event.event_id == row.answer_event)
        private = self._record.trail.private_values(tx, [made.event_id])
        return Decision.model_validate(opened(made.data["answer"], private))


class _Elsewhere(RecordError):
    """Somebody else moves the run or the question just now."""


def _refuse_unless(claimed: bool, question_id: str) -> None:
    if not claimed:
        raise _Elsewhere(f"question {question_id} is being answered just now; see: orchestrator decisions")


def _explain_parked(tx: Connection, run_id: str, reason: str) -> None:
    """Say why a parked run waits, here and in Prefect."""
    if not run_store.explain_parked(tx, run_id, reason):
        raise _Elsewhere(f"run {run_id} is under way just now; try again in a moment")


def _why_closed(row: Any, question_id: str) -> str:
    if row is not None and row.answer_event is None:
        return f"no open question {question_id}: its run is over"
    if row is not None:
        at = f"{moment(row.answered_at):%Y-%m-%d %H:%M:%S} UTC"
        return f"no open question {question_id}: it was answered at {at}, and the first answer counts"
    return f"no open question {question_id}; list them with: orchestrator decisions"


def _parked_by_question(events: Sequence[Event]) -> bool:
    parked = next((event for event in reversed(events) if event.kind == "run.parked"), None)
    return parked is not None and parked.data["error"] == AwaitingDecision.__name__


def _reason(question_id: str, question: Question, due_at: datetime | None) -> str:
    """Say why the run of a question waits.

    Args:
        question_id: The question's id.
        question: The question.
        due_at: Its deadline, if that has passed.
    """
    late = f"overdue since {due_at:%Y-%m-%d %H:%M} UTC: " if due_at else ""
    return f"{late}a person must answer: {question.title}; see: orchestrator decisions show {question_id}"
