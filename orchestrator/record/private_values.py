"""Do the private values still fit the events that hold their commitments?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, select

from orchestrator.errors import RecordError
from orchestrator.record.tables import audit_event, audit_private, subject_key
from orchestrator.record.trail import COMMITMENT, Trail
from orchestrator.record.verify import BATCH_ROWS, Mismatch

_COMMITMENTS = re.compile(rf'{{"{re.escape(COMMITMENT)}":"([0-9a-f]+)"}}'.encode())
"""In a canonical body; the quotes of a text that looks like one are escaped there."""


class _Promise(NamedTuple):
    """What an event says of its private values."""

    chain_seq: int
    chain_id: str
    subject_ref: str | None
    commitments: frozenset[str]


class PrivateValues:
    """Holds the private values against the events that were verified; some hundred events at a time.

    A person who was erased has no key: their values may be gone, or lie there and say nothing.

    Args:
        tx: The transaction of the verification.
        trail: Opens private values.
    """

    def __init__(self, tx: Connection, trail: Trail) -> None:
        self._tx = tx
        self._trail = trail
        self._promises: dict[str, _Promise] = {}
        self._seen = 0
        self._found: list[Mismatch] = []

    def see(self, row: Row[Any], body: dict[str, Any]) -> None:  # noqa: ARG002 - the bytes are enough
        """Note an event that holds private values."""
        commitments = frozenset(found.decode() for found in _COMMITMENTS.findall(row.body))
        if not commitments:
            return
        self._promises[row.event_id] = _Promise(row.chain_seq, row.chain_id, row.subject_ref, commitments)
        if len(self._promises) >= BATCH_ROWS:
            self._check()

    def leave(self, chain_id: str, *, sound: bool) -> None:
        """Private values belong to events, whatever becomes of the chain."""

    def finish(self) -> Sequence[Mismatch]:
        """Return the values that are missing, changed or nobody's."""
        self._check()
        if self._tx.execute(select(func.count()).select_from(audit_private)).scalar_one() != self._seen:
            self._found += self._superfluous()
        return self._found

    def _check(self) -> None:
        """Hold the values of the noted events against them."""
        promises, self._promises = self._promises, {}
        known = self._known_people({promise.subject_ref for promise in promises.values()})
        rows = self._tx.execute(select(audit_private).where(audit_private.c.event_id.in_(promises))).all()
        there: dict[str, set[str]] = {event_id: set() for event_id in promises}
        for row in rows:
            promise = promises[row.event_id]
            if row.commitment in promise.commitments:
                there[row.event_id].add(row.commitment)
                self._seen += 1
                self._note(promise, self._problem(row, promise, known))
        for event_id, promise in promises.items():
            if promise.subject_ref in known and (gone := len(promise.commitments - there[event_id])):
                self._note(promise, f"{gone} of its private values are gone, and its person was not erased")

    def _known_people(self, people: set[str | None]) -> frozenset[str]:
        chosen = select(subject_key.c.subject_ref).where(subject_key.c.subject_ref.in_(people))
        return frozenset(self._tx.execute(chosen).scalars())

    def _problem(self, row: Row[Any], promise: _Promise, known: frozenset[str]) -> str:
        if row.subject_ref != promise.subject_ref:
            return "a private value of it was given to another person"
        if row.subject_ref not in known:
            return ""
        try:
            self._trail.prove_private(self._tx, row)
        except RecordError:
            return "a private value of it was changed: it does not decrypt, or does not fit its commitment"
        return ""

    def _note(self, promise: _Promise, problem: str) -> None:
        if problem:
            self._found.append(Mismatch(where=f"{promise.chain_id} event {promise.chain_seq}", problem=problem))

    def _superfluous(self) -> Iterator[Mismatch]:
        """Find the values that no event holds a commitment of: there are some, or an event is bad."""
        joined = audit_private.outerjoin(audit_event, audit_event.c.event_id == audit_private.c.event_id)
        chosen = select(audit_private.c.event_id, audit_private.c.commitment, audit_event.c.body).select_from(joined)
        for row in self._tx.execute(chosen.execution_options(yield_per=BATCH_ROWS)):
            if not isinstance(row.body, bytes) or row.commitment.encode() not in row.body:
                yield Mismatch(
                    where=f"event {row.event_id}", problem="a private value lies there that it does not hold"
                )
