"""The states of a run, and every way from one to another.

-       --open-->     READY
READY   --take-->     RUNNING    a worker leases it
RUNNING --take-->     RUNNING    the lease of its owner lapsed: another worker goes on
RUNNING --finish-->   DONE
RUNNING --fail-->     FAILED     the process raised an error of its own
RUNNING --postpone--> READY      it goes on later without a person
RUNNING --park-->     PARKED     it waits for a person, or for a connection that refuses access
PARKED  --wake-->     READY      a person settled what it waits for, or it was cancelled while its owner parked it
PARKED  --restore-->  READY      the connection that it waits for works again
READY   --restore-->  READY      the same of a postponed run: it is due at once
PARKED  --resume-->   READY      a person says so
FAILED  --resume-->   READY      a person says so
READY   --cancel-->   CANCELLED
RUNNING --cancel-->   CANCELLED  between two steps by its owner, or by anybody once the owner's lease has lapsed
PARKED  --cancel-->   CANCELLED
FAILED  --cancel-->   CANCELLED  a person has dealt with the matter otherwise
"""

from __future__ import annotations

from enum import StrEnum

from orchestrator.errors import RecordError


class RunState(StrEnum):
    """Where a run stands."""

    READY = "ready"
    """Waits for a worker, from ``due_at`` on."""
    RUNNING = "running"
    """Belongs to a worker, until its lease lapses."""
    PARKED = "parked"
    """Waits for a person."""
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = (RunState.DONE, RunState.FAILED, RunState.CANCELLED)


class Mirror(StrEnum):
    """Whether Prefect shows a run as it is."""

    NONE = "none"
    """There is nothing to show yet, or Prefect executes the run and knows by itself."""
    DUE = "due"
    SHOWN = "shown"


class Cause(StrEnum):
    """Why a run goes from one state to another."""

    OPEN = "open"
    TAKE = "take"
    FINISH = "finish"
    FAIL = "fail"
    POSTPONE = "postpone"
    PARK = "park"
    WAKE = "wake"
    RESTORE = "restore"
    RESUME = "resume"
    CANCEL = "cancel"


_READY, _RUNNING, _PARKED, _FAILED = RunState.READY, RunState.RUNNING, RunState.PARKED, RunState.FAILED

TRANSITIONS: dict[tuple[RunState | None, Cause], tuple[RunState, str | None]] = {
    (None, Cause.OPEN): (RunState.READY, "run.opened"),
    (_READY, Cause.TAKE): (RunState.RUNNING, None),
    (_RUNNING, Cause.TAKE): (RunState.RUNNING, None),
    (_RUNNING, Cause.FINISH): (RunState.DONE, "run.finished"),
    (_RUNNING, Cause.FAIL): (RunState.FAILED, "run.failed"),
    (_RUNNING, Cause.POSTPONE): (RunState.READY, "run.postponed"),
    (_RUNNING, Cause.PARK): (RunState.PARKED, "run.parked"),
    (_PARKED, Cause.WAKE): (RunState.READY, None),
    (_PARKED, Cause.RESTORE): (RunState.READY, "run.resumed"),
    (_READY, Cause.RESTORE): (RunState.READY, None),
    (_PARKED, Cause.RESUME): (RunState.READY, "run.resumed"),
    (_FAILED, Cause.RESUME): (RunState.READY, "run.resumed"),
    (_READY, Cause.CANCEL): (RunState.CANCELLED, "run.cancelled"),
    (_RUNNING, Cause.CANCEL): (RunState.CANCELLED, "run.cancelled"),
    (_PARKED, Cause.CANCEL): (RunState.CANCELLED, "run.cancelled"),
    (_FAILED, Cause.CANCEL): (RunState.CANCELLED, "run.cancelled"),
}
"""From a state, for a cause, to a state, with the run's audit event that says so, if it has one of its own."""


def advance(state: RunState | None, cause: Cause) -> RunState:
    """Return the next state.

    Raises:
        RecordError: No such way exists.
    """
    try:
        return TRANSITIONS[state, cause][0]
    except KeyError as exc:
        raise RecordError(f"a run that is {state or 'not opened'} cannot {cause}") from exc


def sources(cause: Cause) -> list[RunState]:
    """Return the states of which this cause leads out."""
    return [state for state, given in TRANSITIONS if given is cause and state is not None]
