"""Accepting deliveries: each one stored, with its run and its audit event, before the sender is answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto
from hashlib import sha256
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection, bindparam, select
from sqlalchemy.exc import DBAPIError

from orchestrator.builtin.inbox import DeliveryState
from orchestrator.gateway.hooks import Hook
from orchestrator.kernel.runs import Opening, Runs
from orchestrator.record.clock import stamp
from orchestrator.record.compiled import Compiled
from orchestrator.record.record import Record
from orchestrator.record.sql import insert_if_new
from orchestrator.record.store import repeated
from orchestrator.record.tables import inbox
from orchestrator.record.trail import Actor, Context, Draft

_SAME_KEY = Compiled(
    select(inbox.c.delivery, inbox.c.fingerprint, inbox.c.run_id).where(
        inbox.c.source == bindparam("of"), inbox.c.source_key == bindparam("key")
    )
)


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A genuine call that is to be accepted.

    Args:
        hook: The webhook that it came through.
        key: What the sender knows it by.
        body: Byte for byte.
        received_at: When it came (UTC).
        request: The input of the process; None for a dead letter.
        problem: Why it is one.
    """

    hook: Hook
    key: str
    body: bytes
    received_at: datetime
    request: BaseModel | None = None
    problem: str = ""

    @property
    def delivery(self) -> str:
        """The id of the delivery: the same for the same key."""
        return f"d-{sha256(f'{self.hook.source}/{self.key}'.encode()).hexdigest()[:24]}"


class Outcome(Enum):
    """What became of an arrival."""

    ACCEPTED = auto()
    KNOWN = auto()
    """It was there already, byte for byte."""
    CONFLICT = auto()
    """Another body came under the same key before."""


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """The answer to an arrival.

    Args:
        delivery: The id of the delivery.
        outcome: What became of it.
    """

    delivery: str
    outcome: Outcome


class _Overtaken(Exception):
    """Another gateway stored the same delivery in the meantime."""


class Acceptance:
    """Stores arrivals, many in one transaction.

    Args:
        record: Where they are stored.
        runs: Opens their runs.
    """

    def __init__(self, record: Record, runs: Runs) -> None:
        self._record = record
        self._runs = runs

    def accept(self, arrivals: Sequence[Arrival]) -> list[Accepted]:
        """Store arrivals in one durable transaction; when this returns, they are there.

        Raises:
            sqlalchemy.exc.DBAPIError: The store failed; it is not known whether they are there.
        """
        try:
            return repeated(lambda: self._accept_all(arrivals, self._known_or_stored))
        except DBAPIError:
            raise
        except Exception:  # noqa: BLE001 - one of them is unusual: all again, and none stands in another's way
            return repeated(lambda: self._accept_all(arrivals, self._accept))

    def _accept_all(
        self, arrivals: Sequence[Arrival], accept: Callable[[Connection, Arrival], Accepted]
    ) -> list[Accepted]:
        """Store them in an order that is the same everywhere, so that two gateways do not wait for each other."""
        ordered = sorted(range(len(arrivals)), key=lambda number: self._turn(arrivals[number]))
        with self._record.store.write() as tx:
            answers = {number: accept(tx, arrivals[number]) for number in ordered}
        return [answers[number] for number in range(len(arrivals))]

    def _turn(self, arrival: Arrival) -> tuple[str, str]:
        """A new customer is a row that only one transaction can insert; so is a delivery."""
        case_key = arrival.hook.process.case_key
        try:
            person = case_key(arrival.request) if case_key is not None and arrival.request is not None else ""
            return self._record.vault.lookup(person), arrival.delivery
        except Exception:  # noqa: BLE001 - a process's own code; what comes of it is seen when the run is opened
            return "", arrival.delivery

    def _known_or_stored(self, tx: Connection, arrival: Arrival) -> Accepted:
        return self._known(tx, arrival) or self._store(tx, arrival)

    def _accept(self, tx: Connection, arrival: Arrival) -> Accepted:
        try:
            return self._accept_as_it_is(tx, arrival)
        except DBAPIError:
            raise
        except Exception as exc:  # noqa: BLE001 - a process's own code may raise anything on a stranger's payload
            # Its message may repeat the payload.
            problem = f"the run cannot be opened: {type(exc).__name__}"
            return self._accept_as_it_is(tx, replace(arrival, request=None, problem=problem))

    def _accept_as_it_is(self, tx: Connection, arrival: Arrival) -> Accepted:
        try:
            with tx.begin_nested():
                return self._known(tx, arrival) or self._store(tx, arrival)
        except _Overtaken:
            known = self._known(tx, arrival)
            assert known is not None  # noqa: S101 - it is what overtook us
            return known

    def _known(self, tx: Connection, arrival: Arrival) -> Accepted | None:
        row = _SAME_KEY.row(tx, {"of": arrival.hook.source, "key": arrival.key})
        if row is None:
            return None
        if row.fingerprint == self._fingerprint(arrival):
            return Accepted(delivery=row.delivery, outcome=Outcome.KNOWN)
        self._alarm(tx, arrival, row)
        return Accepted(delivery=row.delivery, outcome=Outcome.CONFLICT)

    def _alarm(self, tx: Connection, arrival: Arrival, row: Any) -> None:
        """Record that other bytes came under a known key: once for each delivery, however often it is tried."""
        chain = f"alarm:{row.delivery}"
        head = self._record.trail.head(tx, chain)
        if head.seq == 0:
            context = Context(run_id=row.run_id, process=arrival.hook.process.name)
            data = {"delivery": row.delivery, "size": len(arrival.body)}
            conflict = Draft(kind="delivery.conflict", context=context, data=data, actor=_sender(arrival.hook))
            self._record.trail.append(tx, chain, head, [conflict], self._record.clock())

    def _store(self, tx: Connection, arrival: Arrival) -> Accepted:
        now, request = self._record.clock(), arrival.request
        subject_ref = subject_of(tx, self._record, arrival.hook, request)
        nonce, ciphertext = self._record.vault.encrypt(
            tx, subject_ref, arrival.body, bound_to=f"inbox/{arrival.delivery}"
        )
        row = {
            "delivery": arrival.delivery,
            "source": arrival.hook.source,
            "source_key": arrival.key,
            "fingerprint": self._fingerprint(arrival),
            "received_at": stamp(arrival.received_at),
            "accepted_at": stamp(now),
            "truncated": False,
            "subject_ref": subject_ref,
            "nonce": nonce,
            "ciphertext": ciphertext,
            "state": DeliveryState.DEAD_LETTER if request is None else DeliveryState.STARTED,
            "note": arrival.problem,
            "run_id": None if request is None else f"r-{arrival.delivery[2:]}",
        }
        if not insert_if_new(tx, inbox, row, unique=["source", "source_key"]):
            raise _Overtaken
        self._write_down(tx, arrival, subject_ref)
        return Accepted(delivery=arrival.delivery, outcome=Outcome.ACCEPTED)

    def _write_down(self, tx: Connection, arrival: Arrival, subject_ref: str) -> None:
        """Append the event, and open the run: the event is the first of its chain."""
        run_id = f"r-{arrival.delivery[2:]}" if arrival.request is not None else None
        accepted = Draft(
            kind="delivery.accepted",
            actor=_sender(arrival.hook),
            context=Context(run_id=run_id, subject_ref=subject_ref, process=arrival.hook.process.name),
            data={
                "delivery": arrival.delivery,
                "source_key": arrival.key,
                "size": len(arrival.body),
                "problem": arrival.problem,
            },
        )
        if arrival.request is None or run_id is None:
            self._record.trail.append_alone(tx, arrival.delivery, accepted, self._record.clock())
            return
        opening = Opening(
            definition=arrival.hook.process,
            request=arrival.request,
            run_id=run_id,
            actor=accepted.actor,
            subject_ref=subject_ref,
            before=[accepted],
        )
        self._runs.open(tx, opening)

    def _fingerprint(self, arrival: Arrival) -> str:
        return self._record.vault.fingerprint(arrival.key.encode(), arrival.body)


def subject_of(tx: Connection, record: Record, hook: Hook, request: BaseModel | None) -> str:
    """Return the person that a delivery is about: the one of its case, else somebody new."""
    case_key = hook.process.case_key
    person = case_key(request) if case_key is not None and request is not None else None
    return record.vault.subject(tx, person or None, record.clock())


def _sender(hook: Hook) -> Actor:
    return Actor(name=hook.source, auth=hook.proven)
