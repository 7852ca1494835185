"""Incoming mail that was stored before anything else happened."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import Connection, Select, select, update

from orchestrator.capabilities import IncomingMail, Receipt
from orchestrator.errors import NotFound, NotRecorded
from orchestrator.intake.reading import MailHead, read_head, read_mail
from orchestrator.kernel import run_store
from orchestrator.kernel.cancellation import close_failed
from orchestrator.kernel.run_states import RunState
from orchestrator.ledger import effect_store
from orchestrator.plugins import DoubtClass, Settlement
from orchestrator.record.clock import moment, stamp
from orchestrator.record.record import Record
from orchestrator.record.sql import count_up_to
from orchestrator.record.tables import inbox
from orchestrator.record.trail import Actor, Context, Draft
from orchestrator.settings import WEBHOOK

OURS = "our own mail"
EFFECT_ID = re.compile(r"<(f-[0-9a-f]{32})@")
"""Message-IDs of our mails are derived from effect ids."""


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    NEW = "new"
    """A mail whose run has not filed it yet."""
    SETTLED = "settled"
    FOR_PERSON = "for-person"
    STARTED = "started"
    """A webhook's delivery whose run was opened; the run tells the rest."""
    DEAD_LETTER = "dead-letter"
    """A webhook's delivery that is no input for its process; it has no run, and waits for a person."""
    DISCARDED = "discarded"
    """A dead letter that a person threw away."""


CLOSABLE = (DeliveryState.NEW, DeliveryState.STARTED, DeliveryState.FOR_PERSON)


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One accepted mail or webhook call, as lists show it: without personal data."""

    delivery: str
    source: str
    received_at: str
    state: DeliveryState
    note: str
    run_id: str | None
    case_id: str | None
    proof: str
    """What proves that the sender of a mail wrote it, as ``dmarc=pass``; empty if nothing does."""
    vacuumed_at: str | None
    """When the body was deleted, if it was."""
    vacuumed_by: str | None
    """By which rule."""


def gone(row: Any) -> str:
    """Say why a body is not there any more."""
    return f"the body of delivery {row.delivery} was deleted on {row.vacuumed_at[:10]} by the rule {row.vacuumed_by}"


class HostInbox:
    """Reads stored mail and files it.

    Args:
        record: Where it is stored.
        own: Our own addresses: mail from ourselves is never answered.
    """

    settlements: ClassVar = dict.fromkeys(("settle", "keep_for_person"), Settlement(doubt=DoubtClass.NATURAL))
    """Filing a mail again changes nothing."""

    def __init__(self, record: Record, own: frozenset[str] = frozenset()) -> None:
        self._record = record
        self._own = own

    def check(self) -> str:
        """Say how much mail waits for a person."""
        return f"{len(self.listed(state=DeliveryState.FOR_PERSON, limit=1000))} mails wait for a person"

    def read(self, delivery: str) -> IncomingMail:
        """Read a stored mail as far as it can be read safely."""
        raw, row = self.raw(delivery)
        mail = read_mail(
            raw,
            delivery=delivery,
            received_at=moment(row.received_at),
            truncated=row.truncated,
            own_addresses=self._own,
        )
        return mail.model_copy(update={"automatic": OURS}) if self._is_ours(mail.message_id) else mail

    def _is_ours(self, message_id: str) -> bool:
        """Tell whether a mail that we sent has come back: its Message-ID is the id of an effect."""
        found = EFFECT_ID.match(message_id)
        if found is None:
            return False
        with self._record.store.read() as tx:
            return effect_store.find(tx, found.group(1)) is not None

    def settle(self, delivery: str, *, note: str) -> Receipt:
        """File a mail as dealt with; one that waits for a person does so until that person closes it."""
        return self._file(delivery, DeliveryState.SETTLED, note)

    def keep_for_person(self, delivery: str, *, reason: str) -> Receipt:
        """Leave a mail to a person."""
        return self._file(delivery, DeliveryState.FOR_PERSON, reason)

    def raw(self, delivery: str) -> tuple[bytes, Any]:
        """Return a mail byte for byte, with its row.

        Raises:
            NotFound: No such delivery, or its body was deleted.
        """
        with self._record.store.read() as tx:
            row = _row(tx, delivery)
            if row is None:
                raise NotFound(f"no delivery {delivery}; list them with: orchestrator inbox")
            return body_of(self._record, tx, row), row

    def get(self, delivery: str) -> Delivery:
        """Return a delivery without its body.

        Raises:
            NotFound: No such delivery.
        """
        with self._record.store.read() as tx:
            row = _row(tx, delivery)
        if row is None:
            raise NotFound(f"no delivery {delivery}; list them with: orchestrator inbox")
        return _delivery(row)

    def listed(self, *, state: DeliveryState | None = None, limit: int) -> list[Delivery]:
        """Return the newest deliveries, newest first."""
        with self._record.store.read() as tx:
            return [_delivery(row) for row in tx.execute(_chosen(state).limit(limit))]

    def count(self, state: DeliveryState | None = None, *, at_most: int) -> int:
        """Return how many deliveries ``listed`` finds, counted no further than told."""
        with self._record.store.read() as tx:
            return count_up_to(tx, _chosen(state), at_most)

    def head(self, delivery: Delivery) -> MailHead:
        """Return who wrote a mail and what about; empty for what is no mail, or is not there any more."""
        if delivery.vacuumed_at is not None or delivery.source.startswith(WEBHOOK):
            return MailHead(sender="", subject="")
        return read_head(self.raw(delivery.delivery)[0])

    def bodies(self, source: str, since: datetime) -> Iterator[bytes]:
        """Return what came in from a source since then, byte for byte."""
        chosen = select(inbox.c.delivery).where(inbox.c.source == source, inbox.c.received_at >= stamp(since))
        with self._record.store.read() as tx:
            deliveries = list(tx.scalars(chosen))
        return (self.raw(delivery)[0] for delivery in deliveries)

    def close(self, delivery: str, actor: Actor) -> None:
        """File a delivery that a person has dealt with; if its run failed, that is closed with it.

        Raises:
            NotRecorded: It does not wait for a person, and its run has neither failed nor been cancelled.
        """
        with self._record.store.write() as tx:
            row = _row(tx, delivery)
            if row is None or row.state not in CLOSABLE or not self._is_left(tx, row, actor):
                raise NotRecorded(
                    f"delivery {delivery} does not wait for a person, and its run has neither failed nor been "
                    "cancelled; see: orchestrator inbox, runs"
                )
            waiting = (inbox.c.delivery == delivery, inbox.c.state == row.state)
            if tx.execute(update(inbox).where(*waiting).values(state=DeliveryState.SETTLED)).rowcount != 1:
                raise NotRecorded(f"delivery {delivery} was just filed by somebody else; see: orchestrator inbox")
            context = Context(run_id=row.run_id, case_id=row.case_id, subject_ref=row.subject_ref)
            closed = Draft(kind="delivery.closed", context=context, data={"delivery": delivery}, actor=actor)
            self._record.trail.append_alone(tx, row.run_id, closed, self._record.clock())

    def _is_left(self, tx: Connection, row: Any, actor: Actor) -> bool:
        """Tell whether nobody but a person does anything about a delivery; a failed run is closed."""
        closed = row.run_id is not None and close_failed(self._record, tx, row.run_id, actor)
        run = run_store.find(tx, row.run_id)
        return closed or row.state == DeliveryState.FOR_PERSON or (run is not None and run.state is RunState.CANCELLED)

    def _file(self, delivery: str, state: DeliveryState, note: str) -> Receipt:
        mine, on_desk = inbox.c.delivery == delivery, inbox.c.state == DeliveryState.FOR_PERSON
        with self._record.store.write() as tx:
            filed = tx.execute(update(inbox).where(mine, ~on_desk).values(state=state, note=note)).rowcount
            if not filed and _row(tx, delivery) is None:
                raise NotFound(f"no delivery {delivery}; list them with: orchestrator inbox")
        return Receipt(reference=delivery)


def body_of(record: Record, tx: Connection, row: Any) -> bytes:
    """Return the body of a delivery, byte for byte.

    Raises:
        NotFound: It was deleted.
    """
    if row.vacuumed_at is not None:
        raise NotFound(gone(row))
    place = f"inbox/{row.delivery}"
    return record.vault.decrypt(tx, row.subject_ref, row.nonce, row.ciphertext, bound_to=place)


def _chosen(state: DeliveryState | None) -> Select[Any]:
    chosen = select(inbox).order_by(inbox.c.accepted_at.desc())
    return chosen if state is None else chosen.where(inbox.c.state == state)


def _row(tx: Connection, delivery: str) -> Any:
    return tx.execute(select(inbox).where(inbox.c.delivery == delivery)).one_or_none()


def _delivery(row: Any) -> Delivery:
    return Delivery(
        delivery=row.delivery,
        source=row.source,
        received_at=row.received_at,
        state=DeliveryState(row.state),
        note=row.note,
        run_id=row.run_id,
        case_id=row.case_id,
        proof=row.proof,
        vacuumed_at=row.vacuumed_at,
        vacuumed_by=row.vacuumed_by,
    )
