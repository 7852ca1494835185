"""Does the trail still say what was written? Chains, hashes, bodies and columns are checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, select

from orchestrator.record.canonical import read_canonical
from orchestrator.record.tables import audit_event
from orchestrator.record.trail import GENESIS, VERSION, link_hash

BATCH_ROWS = 1000
_HASHES = ("body", "prev_hash", "hash")
_COLUMNS = [column.name for column in audit_event.columns if column.name not in _HASHES]
_IN_ORDER = [audit_event.c[name] for name in [*_COLUMNS, *_HASHES]]
_MISSING = object()


@dataclass(frozen=True, kw_only=True)
class Breach:
    """The first event of a chain that does not verify, and why."""

    chain_id: str
    chain_seq: int
    event_id: str
    problem: str


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What a verification saw."""

    events: int
    chains: int
    breaches: tuple[Breach, ...]


def verify(tx: Connection, chain_id: str | None = None) -> Verification:
    """Verify every chain, or one.

    What chains alone cannot find: a chain cut at its end, a chain removed whole, rows of different
    chains exchanged together with their hashes recomputed. Those need a checkpoint kept elsewhere.

    Returns:
        How much was seen, and for each broken chain the first bad event.
    """
    chosen = select(*_IN_ORDER).order_by(audit_event.c.chain_id, audit_event.c.chain_seq, audit_event.c.event_id)
    if chain_id is not None:
        chosen = chosen.where(audit_event.c.chain_id == chain_id)
    events, chains, breaches = 0, 0, []
    rows = tx.execute(chosen.execution_options(yield_per=BATCH_ROWS))
    for _, chain in groupby(rows, key=lambda row: row.chain_id):
        seen, breach = _verify_chain(chain)
        events, chains = events + seen, chains + 1
        if breach is not None:
            breaches.append(breach)
    return Verification(events=events, chains=chains, breaches=tuple(breaches))


def breach_of(rows: Iterable[Row[Any]]) -> Breach | None:
    """Return the first bad event of a chain, whose events are given in order, or None."""
    return _verify_chain(rows)[1]


def _verify_chain(rows: Iterable[Row[Any]]) -> tuple[int, Breach | None]:
    seen, prev_hash, breach = 0, GENESIS, None
    for row in rows:
        seen += 1
        problem = None if breach else _problem(row, seen, prev_hash)
        if problem:
            breach = Breach(chain_id=row.chain_id, chain_seq=row.chain_seq, event_id=row.event_id, problem=problem)
        prev_hash = row.hash
    return seen, breach


def _problem(row: Row[Any], expected_seq: int, prev_hash: bytes) -> str | None:
    if row.chain_seq != expected_seq:
        return f"event {expected_seq} of this chain is missing or was moved"
    if not isinstance(row.body, bytes):  # SQLite keeps any type in any column
        return "its body is of another type than was written"
    if row.prev_hash != prev_hash:
        return "it does not continue the event before it"
    if row.hash != link_hash(row.chain_seq, row.prev_hash, row.body):
        return "its hash does not fit its body: one of them was changed"
    return _body_problem(row)


def _body_problem(row: Row[Any]) -> str | None:
    try:
        body = read_canonical(row.body)
    except (ValueError, RecursionError):
        return "its body is no recorded document"
    if not isinstance(body, dict) or body.get("v") != VERSION:
        return "its body is not in the form that this version writes"
    said, shown = [body.get(name, _MISSING) for name in _COLUMNS], list(row[: len(_COLUMNS)])
    if said == shown:
        return None
    name = next(name for name, one, other in zip(_COLUMNS, said, shown, strict=True) if one != other)
    return f"column {name} does not say what the body says"
