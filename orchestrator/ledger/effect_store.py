"""The table of effects. Whatever changes in it, changes here: by compare-and-set, along the ways of ``states``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from orchestrator.errors import LeaseLost
from orchestrator.ledger.states import FINAL, OPEN, State
from orchestrator.record.compiled import Compiled
from orchestrator.record.tables import effect

_PLAN = Compiled(insert(effect))
_FIND = Compiled(select(effect).where(effect.c.effect_id == bindparam("id")))
_OF_RUN = Compiled(select(effect).where(effect.c.run_id == bindparam("run")))
_MOVE = Compiled(
    update(effect).where(
        effect.c.effect_id == bindparam("held_effect"),
        effect.c.state == bindparam("held_state"),
        effect.c.attempt == bindparam("held_attempt"),
    )
)


def plan(tx: Connection, row: Mapping[str, Any]) -> None:
    """Add an effect."""
    _PLAN(tx, row)


def move(tx: Connection, effect_id: str, attempt: int, state: State, columns: Mapping[str, Any]) -> None:
    """Change an effect's row if it still is in this state at this attempt.

    Raises:
        LeaseLost: It is not.
    """
    held = {"held_effect": effect_id, "held_state": state, "held_attempt": attempt}
    if _MOVE(tx, {**held, **columns}) != 1:
        raise LeaseLost(f"effect {effect_id} is no longer {state} at attempt {attempt}: somebody else moved it")


def find(tx: Connection, effect_id: str) -> Any:
    """Return the effect's row, or None."""
    return _FIND.row(tx, {"id": effect_id})


def locked(tx: Connection, effect_id: str | None) -> Row[Any]:
    """Return the effect's row, which nobody else changes or locks until the transaction ends."""
    return tx.execute(select(effect).where(effect.c.effect_id == effect_id).with_for_update()).one()


def of_run(tx: Connection, run_id: str) -> dict[str, Any]:
    """Return the effects of a run, by their ids."""
    return {row.effect_id: row for row in _OF_RUN.rows(tx, {"run": run_id})}


def of_runs(tx: Connection, run_ids: Collection[str]) -> Mapping[str, dict[str, Row[Any]]]:
    """Return the effects of these runs, by run and by their ids."""
    found: Mapping[str, dict[str, Row[Any]]] = defaultdict(dict)
    for row in tx.execute(select(effect).where(effect.c.run_id.in_(run_ids))):
        found[row.run_id][row.effect_id] = row
    return found


def unfinished_of(tx: Connection, run_id: str) -> Sequence[Row[Any]]:
    """Return the effects of a run that have not come to their outcome."""
    return tx.execute(select(effect).where(effect.c.run_id == run_id, effect.c.state.not_in(FINAL))).all()


def unfinished(tx: Connection) -> Sequence[Row[Any]]:
    """Return all effects that have not come to their outcome, oldest first."""
    return tx.execute(select(effect).where(effect.c.state.in_(OPEN)).order_by(effect.c.updated_at)).all()


def count_by_state(tx: Connection, states: Collection[State]) -> dict[str, int]:
    """Return how many effects are in each of these states, if there are any."""
    counted = select(effect.c.state, func.count().label("effects")).where(effect.c.state.in_(states))
    return {row.state: row.effects for row in tx.execute(counted.group_by(effect.c.state))}
