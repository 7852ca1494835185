"""The table of runs. Whatever changes in it, changes here, by verbs that keep to ``run_states``.

Each statement that moves a run names the states that it may come from: of two that move it at once, one is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Text,
    Update,
    and_,
    bindparam,
    case,
    or_,
    select,
    update,
)

from orchestrator.errors import LeaseLost, NotRecorded, RecordError
from orchestrator.kernel.run_model import Holder, Release, Run, run_of
from orchestrator.kernel.run_states import ENDED, Cause, Mirror, RunState, advance, sources
from orchestrator.kernel.run_times import Now, is_due, is_left
from orchestrator.record.clock import stamp
from orchestrator.record.compiled import Compiled
from orchestrator.record.sql import insert_if_new
from orchestrator.record.tables import run
from orchestrator.record.trail import Actor
from orchestrator.record.wakeup import wake_on_commit


def _move(cause: Cause) -> Update:
    """Return the statement that moves runs for a cause: those alone whose state it leads out of."""
    (target,) = {advance(state, cause) for state in sources(cause)}
    return update(run).where(or_(*(run.c.state == state for state in sources(cause)))).values(state=target)


def _mine(statement: Update) -> Update:
    held = (run.c.run_id == bindparam("held_run"), run.c.owner == bindparam("held_by"))
    return statement.where(*held, run.c.fence == bindparam("held_fence"))


def _releasing(cause: Cause) -> Compiled:
    given_back: dict[str, Any] = {"owner": None, "lease_until": None, "mirror_after": None}
    released_at, state = bindparam("released_at", type_=Text), advance(RunState.RUNNING, cause)
    if state in ENDED:
        given_back |= {"waits_for": None, "ended_at": released_at}
    else:  # if somebody cancelled it meanwhile, whoever takes it next ends it
        cancelled = run.c.cancelled_by.is_not(None)
        due_at = bindparam("next_due", type_=Text) if cause is Cause.POSTPONE else run.c.due_at
        given_back["due_at"] = case((cancelled, released_at), else_=due_at)
        given_back["state"] = case((cancelled, advance(RunState.PARKED, Cause.WAKE)), else_=state)
    return Compiled(_mine(_move(cause)).values(given_back).returning(run.c.cancelled_by))


_GET = Compiled(select(run).where(run.c.run_id == bindparam("id")))
_TAKE = (
    _move(Cause.TAKE)
    .where(run.c.run_id == bindparam("id"))
    .values(
        fence=run.c.fence + 1,
        owner=bindparam("new_owner"),
        deaths=run.c.deaths + case((run.c.state == RunState.RUNNING, 1), else_=0),
        **{name: bindparam(f"new_{name}") for name in ("lease_until", "until_clock", "until_steady")},
    )
    .returning(run)
)
# Not every run that was seen as waiting still does: on PostgreSQL, one may have been acquired by its id meanwhile.
_CLAIM = Compiled(_TAKE.where(or_(is_due(run), is_left(run))))
_ACQUIRE = Compiled(
    _TAKE.where(run.c.process == bindparam("of_process"), or_(run.c.state == RunState.READY, is_left(run)))
)
_HOLD = Compiled(_mine(update(run)).returning(run.c.cancelled_by))
_RENEW = Compiled(_mine(update(run)).where(run.c.until_steady < bindparam("longer", type_=BigInteger)))
_RELEASE = {cause: _releasing(cause) for cause in (Cause.FINISH, Cause.FAIL, Cause.PARK, Cause.POSTPONE)}
_RESTATE = Compiled(
    update(run)
    .where(run.c.run_id == bindparam("id"), run.c.state == RunState.READY)
    .values(due_at=bindparam("restated"))
)
_AGAIN: Mapping[str, Any] = {"reason": "", "postponed": 0, "deaths": 0}
"""What a run that a person lets go on leaves behind."""
_TO_SHOW: Mapping[str, Any] = {"mirror": Mirror.DUE, "mirror_after": None}


def find(tx: Connection, run_id: str) -> Run | None:
    """Return a run, or None."""
    row = _GET.row(tx, {"id": run_id})
    return None if row is None else run_of(row)


def get(tx: Connection, run_id: str) -> Run:
    """Return a run.

    Raises:
        NotRecorded: No such run.
    """
    found = find(tx, run_id)
    if found is None:
        raise NotRecorded(f"no run {run_id}; list them with: orchestrator runs")
    return found


# ---------------------------------------------------------------------- a worker executes it


def insert_ready(tx: Connection, columns: Mapping[str, Any]) -> bool:
    """Open a run with these columns; False if it was there already."""
    return insert_if_new(tx, run, {**columns, "state": advance(None, Cause.OPEN)}, unique=["run_id"])


def take(tx: Connection, run_id: str, owner: str, *, now: Now, lease: Mapping[str, Any]) -> Run | None:
    """Lease a run that waits; return it as it is now, or None if it does not wait any more."""
    row = _CLAIM.row(tx, {"id": run_id, **_leased(owner, now, lease)})
    return None if row is None else run_of(row)


def acquire(tx: Connection, run_id: str, owner: str, process: str, *, now: Now, lease: Mapping[str, Any]) -> Run | None:
    """Lease one run that nobody owns, due or not; return it as it is now, or None."""
    row = _ACQUIRE.row(tx, {"id": run_id, "of_process": process, **_leased(owner, now, lease)})
    return None if row is None else run_of(row)


def _leased(owner: str, now: Now, lease: Mapping[str, Any]) -> dict[str, Any]:
    return {**now.values(), "new_owner": owner, **{f"new_{name}": value for name, value in lease.items()}}


def hold(tx: Connection, holder: Holder, *, lease: Mapping[str, Any], deaths: int, release: Release | None) -> bool:
    """Renew a lease, or give the run back.

    Args:
        tx: A write transaction; what else stands in it is written only while the run is held.
        holder: Who holds it.
        lease: Until when it is leased, as ``lease_for`` gave it.
        deaths: How many of its owners died since it last got on.
        release: How it is given back.

    Returns:
        Whether somebody has cancelled it.

    Raises:
        LeaseLost: Another owner has it.
    """
    values = {**holder.values(), **lease, "deaths": deaths}
    if release is None:
        held = _HOLD.row(tx, values)
    else:
        del values["lease_until"]
        held = _RELEASE[release.cause].row(tx, {**values, **release.values()})
    if held is None:
        raise LeaseLost(f"run {holder.run_id}: another owner has it")
    return held.cancelled_by is not None


def renew(tx: Connection, holder: Holder, lease: Mapping[str, Any]) -> None:
    """Renew a lease in the middle of a step; it is only ever made longer."""
    _RENEW(tx, {**holder.values(), "longer": lease["until_steady"], **lease})


def restate_due(tx: Connection, run_id: str, due_at: datetime) -> None:
    """Say again when a run that is ready is due, because the wall clock was set."""
    _RESTATE(tx, {"id": run_id, "restated": stamp(due_at)})


# ---------------------------------------------------------------------- a person or a connection lets it go on


def wake(tx: Connection, run_id: str, due: Mapping[str, Any]) -> None:
    """Let a parked run go on, because a person settled what it waits for.

    Args:
        tx: The caller's transaction.
        run_id: The run.
        due: When, as ``due_in`` gave it.

    Raises:
        RecordError: The run is not parked (yet): woken now, it would park itself right after, unheard.
    """
    if _changed(tx, _move(Cause.WAKE).where(run.c.run_id == run_id), **_AGAIN, **due) != 1:
        raise RecordError(f"run {run_id} is under way just now; try again in a moment")
    wake_on_commit(tx)


def resume(tx: Connection, run_id: str, due: Mapping[str, Any]) -> None:
    """Let a parked or failed run go on, because a person says so.

    Raises:
        NotRecorded: No such run is parked or failed.
    """
    ready = {**_AGAIN, "ended_at": None, "cancelled_by": None, **due}
    if _changed(tx, _move(Cause.RESUME).where(run.c.run_id == run_id), **ready) != 1:
        raise NotRecorded(f"run {run_id} is not parked and has not failed; see: orchestrator runs")


def restore(tx: Connection, what: str, due: Mapping[str, Any]) -> int:
    """Let the runs go on that wait for this; return how many."""
    return _changed(tx, _move(Cause.RESTORE).where(run.c.waits_for == what), reason="", **due, waits_for=None)


def reserve(tx: Connection, run_id: str, due: Mapping[str, Any]) -> bool:
    """Put a postponed run off for the caller, who executes it at once; False if it is none."""
    postponed = (run.c.run_id == run_id, run.c.state == RunState.READY, run.c.reason != "")
    return _changed(tx, update(run).where(*postponed), reason="", **due) == 1


def explain_parked(tx: Connection, run_id: str, reason: str) -> bool:
    """Say why a parked run waits, and have that shown; False if it is not parked."""
    parked = (run.c.run_id == run_id, run.c.state == RunState.PARKED)
    return _changed(tx, update(run).where(*parked), reason=reason, **_TO_SHOW) == 1


# ---------------------------------------------------------------------- a person cancels it


def ask_to_cancel(tx: Connection, run_id: str, actor: Actor) -> bool:
    """Note that somebody wants a run cancelled, unless somebody else did before; False if it cannot be cancelled."""
    can_be = (run.c.run_id == run_id, run.c.state.in_(sources(Cause.CANCEL)))
    asked = update(run).where(*can_be, run.c.cancelled_by.is_(None))
    _changed(tx, asked, cancelled_by=actor.name, cancelled_by_auth=actor.auth)
    return tx.execute(select(run.c.run_id).where(*can_be)).first() is not None


def ask_to_close(tx: Connection, run_id: str, actor: Actor) -> bool:
    """Note who has dealt with a failed run otherwise; False if it has not failed."""
    failed = update(run).where(run.c.run_id == run_id, run.c.state == RunState.FAILED)
    return _changed(tx, failed, cancelled_by=actor.name, cancelled_by_auth=actor.auth) == 1


def cancel(tx: Connection, run_id: str, reason: str, at: datetime) -> None:
    """End a run that nobody executes, or whose owner ends it.

    Raises:
        RecordError: It is over already.
    """
    nobodys = {"owner": None, "lease_until": None, "waits_for": None}
    statement = _move(Cause.CANCEL).where(run.c.run_id == run_id)
    if _changed(tx, statement, reason=reason, ended_at=stamp(at), **nobodys, **_TO_SHOW) != 1:
        raise RecordError(f"run {run_id} is over already")


# ---------------------------------------------------------------------- Prefect shows it


def is_to_show(now: datetime) -> ColumnElement[bool]:
    """Tell which runs are to be shown: they came to an end, or stopped, and no worker shows them just now."""
    waits = and_(run.c.state == RunState.READY, run.c.reason != "")
    stopped = or_(run.c.state.not_in([RunState.RUNNING, RunState.READY]), waits)
    unclaimed = or_(run.c.mirror_after.is_(None), run.c.mirror_after <= stamp(now))
    return and_(run.c.mirror == Mirror.DUE, stopped, unclaimed)


def claim_showing(tx: Connection, run_id: str, *, now: datetime, until: datetime) -> bool:
    """Keep other workers from showing a run; False if it is not to be shown, or somebody else does."""
    return _changed(tx, update(run).where(run.c.run_id == run_id, is_to_show(now)), mirror_after=stamp(until)) == 1


def put_off_showing(tx: Connection, run_id: str, until: datetime, *, detach: bool) -> None:
    """Have a run shown later; detached, by a new flow run."""
    detached = {"prefect_run_id": None} if detach else {}
    _changed(tx, update(run).where(run.c.run_id == run_id), mirror_after=stamp(until), **detached)


def mark_due(tx: Connection, run_id: str) -> None:
    """Have a run shown again."""
    _changed(tx, update(run).where(run.c.run_id == run_id), **_TO_SHOW)


def mark_shown(tx: Connection, seen: Run) -> None:
    """Mark a run as shown, unless it has moved on since it was seen."""
    unmoved = (run.c[name] == getattr(seen, name) for name in ("run_id", "fence", "state", "reason"))
    _changed(tx, update(run).where(*unmoved), mirror=Mirror.SHOWN)


def attach(tx: Connection, run_id: str, prefect_run_id: str, *, unless_attached: bool = False) -> None:
    """Note which Prefect flow run shows a run."""
    unattached = (run.c.prefect_run_id.is_(None),) if unless_attached else ()
    _changed(tx, update(run).where(run.c.run_id == run_id, *unattached), prefect_run_id=prefect_run_id)


def _changed(tx: Connection, statement: Update, **columns: Any) -> int:
    return tx.execute(statement.values(**columns)).rowcount
