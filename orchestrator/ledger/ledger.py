"""One effect, from its intent to its outcome, however often its owner dies on the way."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from orchestrator import errors
from orchestrator.errors import (
    AccessDenied,
    AwaitingDecision,
    ConnectorError,
    LeaseLost,
    RateLimited,
    RecordError,
    RunParked,
    RunPostponed,
    Unavailable,
)
from orchestrator.ledger import effect_store
from orchestrator.ledger.model import Effect, Owner
from orchestrator.ledger.states import (
    CALL_GRACE,
    FINAL,
    PROBE_PATIENCE,
    Cause,
    Doubt,
    Remedy,
    State,
    advance,
    remedy,
)
from orchestrator.record.clock import moment, stamp
from orchestrator.record.trail import Draft, Sealer
from orchestrator.toolkit.deadline import call_limited, uptime

FIRST_DELAY = timedelta(seconds=5)
LONGEST_DELAY = timedelta(hours=1)
LONGEST_ASKED = timedelta(days=1)
"""A system that asks for a longer wait is asked again after so long."""


def delay(attempt: int) -> timedelta:
    """Return how long to wait after a failed attempt: 5 s, doubled each time, at most an hour."""
    doubled: int = 2 ** min(attempt - 1, 10)
    return min(FIRST_DELAY * doubled, LONGEST_DELAY)


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """One attempt: its number, when it was claimed, and whether it repeats one that may have acted.

    ``ends`` is the moment of ``uptime`` from which on others may believe that its call is over.
    """

    number: int
    at: datetime
    ends: float
    repeats: bool = False


def wait_after(error: ConnectorError, attempt: int) -> timedelta:
    """Return how long to wait before the next attempt: what the system asks for, within reason, or ``delay``."""
    asked = error.retry_after if isinstance(error, RateLimited) else None
    return min(asked, LONGEST_ASKED) if asked is not None and asked > timedelta(0) else delay(attempt)


def error_name(error: ConnectorError) -> str:
    """Return an error's name in the tree of ``orchestrator.errors``; a connector may have kinds of its own."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)


class Ledger:
    """Performs effects for the owner of a run.

    Args:
        owner: The session that holds the run.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def perform(self, effect: Effect) -> Any:
        """Bring an effect to its outcome.

        Returns:
            The system's answer.

        Raises:
            ConnectorError: The system refused for good; recorded.
            RunPostponed: It goes on later by itself.
            RunParked: A person must act.
            RecordError: Record and ledger tell different things.
            AwaitingDecision: It is a question, and nobody has answered yet.
            LeaseLost: The run belongs to another owner.
        """
        row = self._owner.read_effect(effect.effect_id)
        if row is None:
            return self._call(effect, self._plan(effect))
        self._owner.settle_up()
        state = State(row.state)
        if state is State.ATTEMPTING:
            state = self._doubt_dead_owner(effect, row)
        if state is State.IN_DOUBT:
            return self._settle(effect, row)
        if state is State.NEEDS_DECISION:
            raise _needs_decision(effect, row.connection)
        if state in FINAL:
            raise RecordError(f"effect {effect.effect_id} is {state}, but its run's chain does not say so: it was cut")
        return self._again(effect, int(row.attempt))

    def _plan(self, effect: Effect) -> _Attempt:
        _, intent = advance(None, Cause.PLAN)
        state, attempted = advance(State.PLANNED, Cause.ATTEMPT)
        ends, now = _end_of_call(effect), self._owner.now()
        row = {
            "effect_id": effect.effect_id,
            "run_id": effect.run_id,
            "step": effect.step,
            "capability": effect.about["capability"],
            "operation": effect.about["operation"],
            "connection": effect.about["connection"],
            "doubt": effect.settlement.doubt,
            "state": state,
            "attempt": 1,
            "call_deadline": stamp(now + effect.settlement.timeout),
            "first_attempt_at": stamp(now),
            **self._owner.clock_columns(),
            "updated_at": stamp(now),
        }

        def change(tx: Connection) -> None:
            if effect.admit is not None:
                effect.admit(tx)
            effect_store.plan(tx, row)

        self._owner.commit(
            self._draft(effect, intent, {"request": effect.request}, sealer=effect.sealer),
            self._draft(effect, attempted, {"attempt": 1}),
            change=change,
            call=effect.settlement.timeout,
        )
        return _Attempt(number=1, at=now, ends=ends)

    def _again(self, effect: Effect, attempt: int, *, repeats: bool = False) -> Any:
        """Make another attempt; it repeats an earlier one if that one may have acted.

        To repeat is one commit with the attempt: a death in between would make the doubt forgotten.
        """
        ends, now = _end_of_call(effect), self._owner.now()
        causes = (State.IN_DOUBT, Cause.REPEAT, Cause.ATTEMPT) if repeats else (State.PLANNED, Cause.ATTEMPT)
        clock: dict[str, Any] = self._owner.clock_columns()
        # A key lives from the first call that may have used it.
        first = self._owner.read_effect(effect.effect_id).first_attempt_at if repeats else stamp(now)
        self._move(
            effect,
            attempt,
            *causes,
            data={"attempt": attempt + 1},
            call=effect.settlement.timeout,
            attempt=attempt + 1,
            connection=effect.about["connection"],
            call_deadline=stamp(now + effect.settlement.timeout),
            first_attempt_at=first,
            **clock,
        )
        return self._call(effect, _Attempt(number=attempt + 1, at=now, ends=ends, repeats=repeats))

    def _call(self, effect: Effect, attempt: _Attempt) -> Any:
        self._refuse_late(effect, attempt)
        try:
            with call_limited(lambda: attempt.ends - uptime()):
                answer = effect.invoke()
        except (AwaitingDecision, ConnectorError) as exc:
            try:
                self._failed(effect, attempt, exc)
            except LeaseLost:
                self._owner.report_late(effect.effect_id, type(exc).__name__)
                raise
            raise
        # With the next commit: a death before it leaves a doubt, which is settled as any other one.
        self._confirm(effect, attempt.number, State.ATTEMPTING, Cause.SUCCEED, answer)
        return answer

    def _refuse_late(self, effect: Effect, attempt: _Attempt) -> None:
        """Leave a call that would begin too late: somebody may believe by now that it never was."""
        now = self._owner.now()
        if now - attempt.at > CALL_GRACE:
            cause = Cause.DOUBT if attempt.repeats else Cause.DELAY
            self._move(effect, attempt.number, State.ATTEMPTING, cause, data={"error": "begun too late"})
            raise RunPostponed("it took too long to write the record; the call was not made", due_at=now)

    def _confirm(self, effect: Effect, attempt: int, state: State, cause: Cause, answer: Any) -> None:
        sealer = Sealer()
        data = {"answer": effect.write_answer(answer, sealer), "via": cause, "attempt": attempt}
        self._move(effect, attempt, state, cause, data=data, sealer=sealer, later=True)

    def _failed(self, effect: Effect, attempt: _Attempt, error: AwaitingDecision | ConnectorError) -> None:
        """Record a failed call; returns if the error itself must be known further up."""
        if isinstance(error, AwaitingDecision):
            self._move(effect, attempt.number, State.ATTEMPTING, Cause.DELAY, data={"error": "AwaitingDecision"})
            return
        data = {"error": error_name(error), "message": str(error), "attempt": attempt.number}
        tried_again = isinstance(error, Unavailable | AccessDenied)
        # A repetition that did nothing says nothing of the attempt that it repeats.
        in_doubt = not error.no_effect or (attempt.repeats and tried_again)
        cause = Cause.DOUBT if in_doubt else Cause.DELAY if tried_again else Cause.REFUSE
        self._move(effect, attempt.number, State.ATTEMPTING, cause, data=data)
        until = self._settles_at(effect, attempt.number, error) if in_doubt else self._owner.now()
        if (in_doubt or tried_again) and not isinstance(error, AccessDenied):
            later = self._owner.now() + wait_after(error, attempt.number)
            raise RunPostponed(str(error), due_at=max(until, later)) from error

    def _settles_at(self, effect: Effect, attempt: int, error: ConnectorError) -> datetime:
        """Return when a new doubt can be settled; a doubt that nobody can settle is a person's."""
        now = self._owner.now()
        doubt = Doubt(first_attempt_at=now, call_deadline=now + effect.settlement.timeout)
        chosen, until = remedy(effect.settlement, doubt, now)
        if chosen is Remedy.ASK:
            self._move(effect, attempt, State.IN_DOUBT, Cause.ASK)
            raise _needs_decision(effect, effect.about["connection"]) from error
        return until

    def _doubt_dead_owner(self, effect: Effect, row: Any) -> State:
        over = moment(row.call_deadline) + CALL_GRACE
        if self._owner.now() < over:
            raise RunPostponed("an earlier call may still be under way", due_at=over)
        self._move(effect, row.attempt, State.ATTEMPTING, Cause.DOUBT, data={"error": "owner died"})
        return State.IN_DOUBT

    def _settle(self, effect: Effect, row: Any) -> Any:
        """Settle a doubt: find that it happened, or make another attempt."""
        now = self._owner.now()
        doubt = Doubt(first_attempt_at=moment(row.first_attempt_at), call_deadline=moment(row.call_deadline))
        chosen, until = remedy(effect.settlement, doubt, now)
        if row.connection != effect.about["connection"]:  # another system can neither repeat nor find it
            chosen = Remedy.ASK
        match chosen:
            case Remedy.REPEAT:
                return self._again(effect, row.attempt, repeats=True)
            case Remedy.PROBE:
                return self._probe(effect, row, now)
            case Remedy.WAIT:
                raise RunPostponed("the outcome of a call cannot be known yet", due_at=until)
            case Remedy.ASK:
                self._move(effect, row.attempt, State.IN_DOUBT, Cause.ASK)
                raise _needs_decision(effect, row.connection)

    def _probe(self, effect: Effect, row: Any, now: datetime) -> Any:
        try:
            answer = effect.probe()
            is_sure = answer is not None or effect.absence_counts()
        except ConnectorError as exc:  # whatever it is, it is no answer to the effect
            doubted_for = now - moment(row.call_deadline)
            if doubted_for > PROBE_PATIENCE:
                self._move(effect, row.attempt, State.IN_DOUBT, Cause.ASK, data={"error": error_name(exc)})
                raise _needs_decision(effect, row.connection) from exc
            if isinstance(exc, AccessDenied):
                raise
            raise RunPostponed(str(exc), due_at=now + min(doubted_for, LONGEST_DELAY)) from exc
        if not is_sure:
            self._move(effect, row.attempt, State.IN_DOUBT, Cause.ASK, data={"error": "not seen by an unproven probe"})
            raise _needs_decision(effect, row.connection)
        if answer is None:
            self._move(effect, row.attempt, State.IN_DOUBT, Cause.ABSENT)
            return self._again(effect, row.attempt)
        self._confirm(effect, row.attempt, State.IN_DOUBT, Cause.FOUND, answer)
        return answer

    def _move(
        self,
        effect: Effect,
        held_attempt: int,
        state: State,
        *causes: Cause,
        data: dict[str, Any] | None = None,
        sealer: Sealer | None = None,
        call: timedelta | None = None,
        later: bool = False,
        **columns: Any,
    ) -> None:
        """Go from one state to the next, by compare-and-set, together with the audit events that say so.

        Several causes are gone through at once; ``data`` belongs to the last one's event. ``later`` is with the
        next commit.
        """
        target, drafts = state, []
        for cause in causes:
            target, kind = advance(target, cause)
            last = cause is causes[-1]
            drafts.append(self._draft(effect, kind, (data if last else None) or {}, sealer=sealer if last else None))
        columns |= {"state": target, "updated_at": stamp(self._owner.now())}

        def change(tx: Connection) -> None:
            effect_store.move(tx, effect.effect_id, held_attempt, state, columns)
            if target is State.CONFIRMED and held_attempt > 1:
                self._owner.report_duplicate(tx, drafts[-1])

        if later:
            self._owner.keep(drafts[-1], change)
        else:
            self._owner.commit(*drafts, change=change, call=call)

    def _draft(self, effect: Effect, kind: str, data: dict[str, Any], *, sealer: Sealer | None = None) -> Draft:
        return self._owner.draft(
            kind, data, sealer=sealer, step=effect.step, effect_id=effect.effect_id, **effect.about
        )


def _end_of_call(effect: Effect) -> float:
    return uptime() + (effect.settlement.timeout + CALL_GRACE).total_seconds()


def _needs_decision(effect: Effect, connection: str) -> RunParked:
    return RunParked(
        f"nobody can know whether step {effect.step} ({effect.about['operation']} through connection "
        f"{connection}) happened; find out, then: "
        f"orchestrator effects settle {effect.effect_id} --happened, --retry or --give-up"
    )
