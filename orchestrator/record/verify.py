"""Does the trail still say what was written? Chains, hashes, bodies and columns are checked, in one pass.

Whoever knows what else must agree with the events watches that pass: private values, runs and effects.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

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
class Mismatch:
    """A row of another table that does not say what the events say."""

    where: str
    problem: str


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What a verification saw."""

    events: int
    chains: int
    breaches: tuple[Breach, ...]
    mismatches: tuple[Mismatch, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether everything is as it was written."""
        return not self.breaches and not self.mismatches


class Watcher(Protocol):
    """Sees each event that verifies, chain by chain and in order, and holds other tables against it."""

    def see(self, row: Row[Any], body: dict[str, Any]) -> None:
        """See an event."""

    def leave(self, chain_id: str, *, sound: bool) -> None:
        """Leave a chain; if it is not sound, only its events before the bad one were seen."""

    def finish(self) -> Sequence[Mismatch]:
        """Return everything that does not fit."""


def verify(tx: Connection, chain_id: str | None = None, watchers: Sequence[Watcher] = ()) -> Verification:
    """Verify every chain, or one.

    What chains alone cannot find: a chain cut at its end, a chain removed whole, rows of different
    chains exchanged together with their hashes recomputed. Those need a checkpoint kept elsewhere.

    Args:
        tx: A transaction that sees one snapshot.
        chain_id: The chain; without it, all.
        watchers: Hold other tables against the events.

    Returns:
        How much was seen, for each broken chain the first bad event, and what the watchers found.
    """
    chosen = select(*_IN_ORDER).order_by(audit_event.c.chain_id, audit_event.c.chain_seq, audit_event.c.event_id)
    if chain_id is not None:
        chosen = chosen.where(audit_event.c.chain_id == chain_id)
    events, chains, breaches = 0, 0, []
    rows = tx.execute(chosen.execution_options(yield_per=BATCH_ROWS))
    for each, chain in groupby(rows, key=lambda row: row.chain_id):
        seen, breach = _verify_chain(chain, watchers)
        events, chains = events + seen, chains + 1
        if breach is not None:
            breaches.append(breach)
        for watcher in watchers:
            watcher.leave(each, sound=breach is None)
    mismatches = tuple(mismatch for watcher in watchers for mismatch in watcher.finish())
    return Verification(events=events, chains=chains, breaches=tuple(breaches), mismatches=mismatches)


def breach_of(rows: Iterable[Row[Any]]) -> Breach | None:
    """Return the first bad event of a chain, whose events are given in order, or None."""
    return _verify_chain(rows)[1]


def _verify_chain(rows: Iterable[Row[Any]], watchers: Sequence[Watcher] = ()) -> tuple[int, Breach | None]:
    seen, prev_hash, breach = 0, GENESIS, None
    for row in rows:
        seen += 1
        if breach is None:
            body = _body(row, seen, prev_hash)
            if isinstance(body, str):
                breach = Breach(chain_id=row.chain_id, chain_seq=row.chain_seq, event_id=row.event_id, problem=body)
            else:
                for watcher in watchers:
                    watcher.see(row, body)
        prev_hash = row.hash
    return seen, breach


def _body(row: Row[Any], expected_seq: int, prev_hash: bytes) -> dict[str, Any] | str:
    """Return what an event says, or why it does not verify."""
    if row.chain_seq != expected_seq:
        return f"event {expected_seq} of this chain is missing or was moved"
    if not isinstance(row.body, bytes):  # SQLite keeps any type in any column
        return "its body is of another type than was written"
    if row.prev_hash != prev_hash:
        return "it does not continue the event before it"
    if row.hash != link_hash(row.chain_seq, row.prev_hash, row.body):
        return "its hash does not fit its body: one of them was changed"
    return _document(row)


def _document(row: Row[Any]) -> dict[str, Any] | str:
    try:
        body = read_canonical(row.body)
    except (ValueError, RecursionError):
        return "its body is no recorded document"
    if not isinstance(body, dict) or body.get("v") != VERSION:
        return "its body is not in the form that this version writes"
    said, shown = [body.get(name, _MISSING) for name in _COLUMNS], list(row[: len(_COLUMNS)])
    if said == shown:
        return body
    name = next(name for name, one, other in zip(_COLUMNS, said, shown, strict=True) if one != other)
    return f"column {name} does not say what the body says"
