"""Do runs and effects still stand where their events left them?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row

from orchestrator.kernel import run_queries
from orchestrator.kernel.run_model import Run
from orchestrator.kernel.run_states import TRANSITIONS as RUN_TRANSITIONS
from orchestrator.kernel.run_states import RunState
from orchestrator.ledger import effect_store
from orchestrator.ledger.states import TRANSITIONS, Cause, State
from orchestrator.record.private_values import PrivateValues
from orchestrator.record.record import Record
from orchestrator.record.verify import Mismatch, Verification, verify

BATCH_CHAINS = 500
_DECISION = "effect.decision"
_UNDER_WAY = frozenset({RunState.READY, RunState.RUNNING})
_LEAVES: Mapping[str, frozenset[RunState]] = {
    kind: _UNDER_WAY if target is RunState.READY else frozenset({target})
    for target, kind in RUN_TRANSITIONS.values()
    if kind is not None
}
"""The last of these events in a chain says in which of these states its run is; that a worker took it, none says."""
_MOVES = {kind: target for target, kind in TRANSITIONS.values() if kind != _DECISION}
_DECIDED = {Cause.HAPPENED: State.CONFIRMED, Cause.RETRY: State.PLANNED, Cause.GIVE_UP: State.ABANDONED}


def audit(record: Record) -> Verification:
    """Verify the whole record: the trail, and private values, runs and effects against it."""
    with record.store.read() as tx:
        return verify(tx, watchers=[PrivateValues(tx, record.trail), RunsAndEffects(tx)])


@dataclass
class _Effect:
    state: State = State.PLANNED
    attempt: int = 0


@dataclass
class _Chain:
    """Where the events of a chain leave its run and its effects."""

    last: str = ""
    went_on: bool = False
    """Whether something happened after the run's last event: a parked run may have been woken by it."""
    effects: dict[str, _Effect] = field(default_factory=dict)


class RunsAndEffects:
    """Holds the tables of runs and effects against the events that were verified; some hundred chains at a time.

    Args:
        tx: The transaction of the verification.
    """

    def __init__(self, tx: Connection) -> None:
        self._tx = tx
        self._chain = _Chain()
        self._chains: dict[str, _Chain] = {}
        self._found: list[Mismatch] = []

    def see(self, row: Row[Any], body: dict[str, Any]) -> None:
        """Follow the run and its effects."""
        self._chain.went_on = True
        if row.kind in _LEAVES:
            self._chain.last, self._chain.went_on = row.kind, False
        if row.effect_id is not None and (target := _target(row.kind, body["data"])):
            followed = self._chain.effects.setdefault(row.effect_id, _Effect())
            followed.state = target
            followed.attempt += target is State.ATTEMPTING

    def leave(self, chain_id: str, *, sound: bool) -> None:
        """Keep what a run's chain says; of one that is broken, nothing can be said."""
        if sound and self._chain.last:
            self._chains[chain_id] = self._chain
        self._chain = _Chain()
        if len(self._chains) >= BATCH_CHAINS:
            self._check()

    def finish(self) -> Sequence[Mismatch]:
        """Return the runs and effects that stand elsewhere than their events say."""
        self._check()
        self._found += [_mismatch("run", run_id, "has no events") for run_id in run_queries.without_events(self._tx)]
        return self._found

    def _check(self) -> None:
        chains, self._chains = self._chains, {}
        runs = run_queries.among(self._tx, chains)
        effects = effect_store.of_runs(self._tx, chains)
        for run_id, chain in chains.items():
            if problem := _run_problem(chain, runs.get(run_id)):
                self._found.append(_mismatch("run", run_id, problem))
            self._found += _effect_problems(chain, effects[run_id])


def _target(kind: str, data: Any) -> State | None:
    """Return where an event brings its effect; None if nowhere."""
    return _DECIDED.get(data.get("decision")) if kind == _DECISION else _MOVES.get(kind)


def _run_problem(chain: _Chain, run: Run | None) -> str:
    if run is None:
        return "is missing, and its events are there"
    woken = chain.last == "run.parked" and (chain.went_on or run.cancelled_by is not None)
    if run.state in _LEAVES[chain.last] | (_UNDER_WAY if woken else frozenset()):
        return ""
    return f"is {run.state}, and its last event is {chain.last}"


def _effect_problems(chain: _Chain, rows: Mapping[str, Row[Any]]) -> Iterator[Mismatch]:
    for effect_id in chain.effects.keys() | rows.keys():
        said, row = chain.effects.get(effect_id), rows.get(effect_id)
        if row is None:
            yield _mismatch("effect", effect_id, "is missing, and its events are there")
        elif said is None:
            yield _mismatch("effect", effect_id, "has no events")
        elif (row.state, row.attempt) != (said.state, said.attempt):
            is_so, was_so = f"{row.state} at attempt {row.attempt}", f"{said.state} at attempt {said.attempt}"
            yield _mismatch("effect", effect_id, f"is {is_so}, and its events leave it {was_so}")


def _mismatch(kind: str, known_as: str, problem: str) -> Mismatch:
    return Mismatch(where=f"{kind} {known_as}", problem=problem)
