"""The states of an effect, and every way from one to another.

-            --plan-->     PLANNED
PLANNED      --attempt-->  ATTEMPTING       committed before the wire
ATTEMPTING   --succeed-->  CONFIRMED
ATTEMPTING   --refuse-->   REJECTED         the system refused for good and did not act
ATTEMPTING   --delay-->    PLANNED          the system did not act, and may later
ATTEMPTING   --doubt-->    IN_DOUBT         outcome unknown, or the owner died in the call
IN_DOUBT     --repeat-->   PLANNED          repeating is harmless
IN_DOUBT     --found-->    CONFIRMED        a probe saw that it happened
IN_DOUBT     --absent-->   PLANNED          a probe saw that it did not
IN_DOUBT     --ask-->      NEEDS_DECISION   nobody can know: a person decides
NEEDS_DECISION --happened--> CONFIRMED, --retry--> PLANNED, --give-up--> ABANDONED
PLANNED      --give-up-->  ABANDONED        its run was cancelled
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from orchestrator.errors import RecordError
from orchestrator.plugins import DoubtClass, Settlement

CALL_GRACE = timedelta(seconds=5)
"""How long after its deadline a call is surely over: a dead owner's time-out can no longer be running."""
KEY_MARGIN = timedelta(minutes=10)
"""An idempotency key is not relied on in the last minutes of its life."""
PROBE_PATIENCE = timedelta(hours=24)
"""A probe that cannot tell for so long makes way for a person."""


class State(StrEnum):
    """Where an effect stands."""

    PLANNED = "planned"
    ATTEMPTING = "attempting"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    IN_DOUBT = "in-doubt"
    NEEDS_DECISION = "needs-decision"
    ABANDONED = "abandoned"


FINAL = frozenset({State.CONFIRMED, State.REJECTED, State.ABANDONED})
OPEN = frozenset(State) - FINAL


class Cause(StrEnum):
    """Why an effect goes from one state to another."""

    PLAN = "plan"
    ATTEMPT = "attempt"
    SUCCEED = "succeed"
    REFUSE = "refuse"
    DELAY = "delay"
    DOUBT = "doubt"
    REPEAT = "repeat"
    FOUND = "found"
    ABSENT = "absent"
    ASK = "ask"
    HAPPENED = "happened"
    RETRY = "retry"
    GIVE_UP = "give-up"


_PLANNED, _ATTEMPTING, _IN_DOUBT, _ASKED = State.PLANNED, State.ATTEMPTING, State.IN_DOUBT, State.NEEDS_DECISION

TRANSITIONS: dict[tuple[State | None, Cause], tuple[State, str]] = {
    (None, Cause.PLAN): (State.PLANNED, "effect.intent"),
    (_PLANNED, Cause.ATTEMPT): (State.ATTEMPTING, "effect.attempt"),
    (_ATTEMPTING, Cause.SUCCEED): (State.CONFIRMED, "effect.outcome"),
    (_ATTEMPTING, Cause.REFUSE): (State.REJECTED, "effect.refused"),
    (_ATTEMPTING, Cause.DELAY): (State.PLANNED, "effect.delayed"),
    (_ATTEMPTING, Cause.DOUBT): (State.IN_DOUBT, "effect.in_doubt"),
    (_IN_DOUBT, Cause.REPEAT): (State.PLANNED, "effect.retry"),
    (_IN_DOUBT, Cause.FOUND): (State.CONFIRMED, "effect.outcome"),
    (_IN_DOUBT, Cause.ABSENT): (State.PLANNED, "effect.absent"),
    (_IN_DOUBT, Cause.ASK): (State.NEEDS_DECISION, "effect.needs_decision"),
    (_PLANNED, Cause.GIVE_UP): (State.ABANDONED, "effect.decision"),
    (_ASKED, Cause.HAPPENED): (State.CONFIRMED, "effect.decision"),
    (_ASKED, Cause.RETRY): (State.PLANNED, "effect.decision"),
    (_ASKED, Cause.GIVE_UP): (State.ABANDONED, "effect.decision"),
}
"""From a state, for a cause, to a state, with the audit event that says so."""


def advance(state: State | None, cause: Cause) -> tuple[State, str]:
    """Return the next state and the audit event's kind.

    Raises:
        RecordError: No such way exists.
    """
    try:
        return TRANSITIONS[state, cause]
    except KeyError as exc:
        raise RecordError(f"an effect that is {state or 'not planned'} cannot {cause}") from exc


class Remedy(StrEnum):
    """What to do about a doubt."""

    REPEAT = "repeat"
    PROBE = "probe"
    WAIT = "wait"
    ASK = "ask"


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """What is known of an effect in doubt."""

    first_attempt_at: datetime
    call_deadline: datetime


def remedy(settlement: Settlement, doubt: Doubt, now: datetime) -> tuple[Remedy, datetime]:
    """Decide what settles a doubt.

    An absence proves something only when the earlier call can no longer land: so a probe waits until
    the call's deadline and the system's own lag (``settlement.visibility_delay``) have passed.

    Returns:
        The remedy, and for ``WAIT`` until when.
    """
    match settlement.doubt:
        case DoubtClass.PURE | DoubtClass.NATURAL:
            return Remedy.REPEAT, now
        case DoubtClass.NATIVE_KEY if settlement.key_lifetime is not None:
            alive_until = doubt.first_attempt_at + settlement.key_lifetime - KEY_MARGIN
            return (Remedy.REPEAT if now < alive_until else Remedy.ASK), now
        case DoubtClass.PROBE:
            believable = doubt.call_deadline + CALL_GRACE + settlement.visibility_delay
            return (Remedy.PROBE, now) if now >= believable else (Remedy.WAIT, believable)
        case _:
            return Remedy.ASK, now
