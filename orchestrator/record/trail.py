"""The audit trail: append-only events in hash chains, one chain a run."""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select

from orchestrator.errors import RecordError
from orchestrator.record.canonical import canonical
from orchestrator.record.clock import stamp
from orchestrator.record.compiled import Compiled
from orchestrator.record.news import INSERT_NEWS, news_in
from orchestrator.record.tables import audit_event, audit_private
from orchestrator.record.vault import Vault

VERSION = 1
DOMAIN = b"orchestrator/audit/v1\0"
GENESIS = bytes(32)
SALT_BYTES = 32
COMMITMENT = "$p"
"""Key of the object that stands in a body where a private value was."""

_SAME_EVENT = audit_event.c.event_id == audit_private.c.event_id
_MINE = audit_event.c.chain_id == bindparam("chain")
CHAIN = Compiled(select(audit_event).where(_MINE).order_by(audit_event.c.chain_seq, audit_event.c.event_id))
"""The events of a chain, in order."""
_LAST = Compiled(
    select(audit_event.c.chain_seq, audit_event.c.hash).where(_MINE).order_by(audit_event.c.chain_seq.desc()).limit(1)
)
_PRIVATE = select(audit_private).where(audit_private.c.event_id.in_(bindparam("events", expanding=True)))
_PRIVATE_OF_CHAIN = Compiled(select(audit_private).join(audit_event, _SAME_EVENT).where(_MINE))
_INSERT_EVENT, _INSERT_PRIVATE = Compiled(insert(audit_event)), Compiled(insert(audit_private))


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who caused an event, and how that was proven: ``Actor(name="operator:ann", auth="cli")``."""

    name: str
    auth: str


SYSTEM = Actor(name="orchestrator", auth="system")
IN_PREFECT = Actor(name="operator", auth="unattributed")
"""Whoever pressed something in Prefect, which does not know its users."""
BY_PREFECTS_SCHEDULE = Actor(name="schedule", auth="prefect schedule")
"""A schedule in Prefect, which whoever gets at Prefect can make."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What an event is about: the columns that the trail can be searched by."""

    case_id: str | None = None
    run_id: str | None = None
    prefect_run_id: str | None = None
    process: str | None = None
    process_version: str | None = None
    step: int | None = None
    capability: str | None = None
    operation: str | None = None
    connection: str | None = None
    connector_version: str | None = None
    effect_id: str | None = None
    subject_ref: str | None = None
    title: str | None = None
    """What the step does, for people, also once its plug-in is gone. It stands in the body alone."""


class Sealer:
    """Puts commitments where private values were, and keeps the values of one event until it is appended."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        """Commitment to salt and value."""

    def __call__(self, value: object) -> dict[str, str]:
        """Return the commitment that stands for a private value in the body."""
        salt = secrets.token_bytes(SALT_BYTES)
        plain = json.dumps(value).encode()
        commitment = _commit(salt, plain)
        self.values[commitment] = salt + plain
        return {COMMITMENT: commitment}


@dataclass(frozen=True, kw_only=True)
class Draft:
    """An event before it has its place in a chain."""

    kind: str
    context: Context
    data: Mapping[str, Any] = field(default_factory=dict)
    sealer: Sealer = field(default_factory=Sealer)
    """The one that sealed the private values in ``data``."""
    actor: Actor = SYSTEM


@dataclass(frozen=True, kw_only=True)
class Head:
    """Where a chain ends."""

    seq: int = 0
    hash: bytes = GENESIS


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event as it stands in the trail; private values in ``data`` are commitments."""

    event_id: str
    chain_id: str
    chain_seq: int
    kind: str
    at: str
    actor: Actor
    context: Context
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Links:
    """Events that are ready to be appended to a chain.

    Args:
        events: Their rows.
        drafts: What they were made of.
        head: The chain's head when they are appended.
    """

    events: list[dict[str, Any]]
    drafts: Sequence[Draft]
    head: Head


class Trail:
    """Reads and appends audit events.

    Args:
        vault: Encrypts the private values.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def append(self, tx: Connection, chain_id: str, head: Head, drafts: Sequence[Draft], now: datetime) -> Head:
        """Append events to a chain, in the caller's transaction.

        Returns:
            The chain's new head.

        Raises:
            sqlalchemy.exc.IntegrityError: Somebody else appended to the chain: ``head`` is not its end.
        """
        links = linked(chain_id, head, drafts, now)
        self.insert(tx, links)
        return links.head

    def insert(self, tx: Connection, links: Links) -> None:
        """Append what ``linked`` made, in the caller's transaction; raises as ``append``."""
        _INSERT_EVENT.many(tx, links.events)
        INSERT_NEWS.many(tx, list(news_in(links.events)))
        drafts = zip(links.events, links.drafts, strict=True)
        _INSERT_PRIVATE.many(
            tx, [row for event, draft in drafts for row in self._private(tx, event["event_id"], draft)]
        )

    def append_alone(self, tx: Connection, chain_id: str, draft: Draft, now: datetime) -> None:
        """Append one event to a chain that the caller does not own, wherever it ends now."""
        self.append(tx, chain_id, self.head(tx, chain_id), [draft], now)

    def head(self, tx: Connection, chain_id: str) -> Head:
        """Return where a chain ends."""
        row = _LAST.row(tx, {"chain": chain_id})
        return Head() if row is None else Head(seq=row.chain_seq, hash=row.hash)

    def chain(self, tx: Connection, chain_id: str) -> list[Event]:
        """Return the events of a chain, in order."""
        return [event_of(row) for row in CHAIN.rows(tx, {"chain": chain_id})]

    def latest(self, tx: Connection, *, limit: int) -> list[Event]:
        """Return the newest events of all chains, oldest first."""
        order = (audit_event.c.at.desc(), audit_event.c.chain_id.desc(), audit_event.c.chain_seq.desc())
        rows = tx.execute(select(audit_event).order_by(*order).limit(limit)).all()
        return [event_of(row) for row in reversed(rows)]

    def private_values(self, tx: Connection, event_ids: Sequence[str]) -> dict[str, Any]:
        """Decrypt the private values of events.

        Returns:
            Commitment to value.

        Raises:
            RecordError: A value does not decrypt, or does not fit its commitment.
        """
        return dict(self._opened(tx, row) for row in tx.execute(_PRIVATE, {"events": event_ids}))

    def private_of(self, tx: Connection, chain_id: str) -> dict[str, Any]:
        """Decrypt the private values of a chain; else as ``private_values``."""
        return dict(self._opened(tx, row) for row in _PRIVATE_OF_CHAIN.rows(tx, {"chain": chain_id}))

    def prove_private(self, tx: Connection, row: Any) -> bytes:
        """Return what a row of ``audit_private`` holds, proven to fit its commitment; raises as ``private_values``."""
        place = f"{row.event_id}/{row.commitment}"
        secret = self._vault.decrypt(tx, row.subject_ref, row.nonce, row.ciphertext, bound_to=place)
        if not hmac.compare_digest(_commit(secret[:SALT_BYTES], secret[SALT_BYTES:]), row.commitment):
            raise RecordError(f"a private value at {place} does not fit its commitment")
        return secret[SALT_BYTES:]

    def _opened(self, tx: Connection, row: Any) -> tuple[str, Any]:
        return row.commitment, json.loads(self.prove_private(tx, row))

    def _private(self, tx: Connection, event_id: str, draft: Draft) -> Iterator[dict[str, Any]]:
        """Yield the rows of an event's private values."""
        subject_ref = draft.context.subject_ref
        if draft.sealer.values and subject_ref is None:
            raise RecordError(f"event {draft.kind} holds private values but names no person they belong to")
        for commitment, secret in draft.sealer.values.items():
            nonce, ciphertext = self._vault.encrypt(tx, str(subject_ref), secret, bound_to=f"{event_id}/{commitment}")
            yield {
                "event_id": event_id,
                "commitment": commitment,
                "subject_ref": subject_ref,
                "nonce": nonce,
                "ciphertext": ciphertext,
            }


def linked(chain_id: str, head: Head, drafts: Sequence[Draft], now: datetime) -> Links:
    """Make the next links of a chain, without a transaction: others that write need not wait meanwhile."""
    events = []
    for draft in drafts:
        event, head = _event(chain_id, head, draft, now)
        events.append(event)
    return Links(events=events, drafts=drafts, head=head)


def _event(chain_id: str, head: Head, draft: Draft, now: datetime) -> tuple[dict[str, Any], Head]:
    """Return the row of an event that continues a chain, and the chain's new head."""
    columns = {
        "event_id": _event_id(now),
        "chain_id": chain_id,
        "chain_seq": head.seq + 1,
        "kind": draft.kind,
        "at": stamp(now),
        "actor": draft.actor.name,
        "actor_auth": draft.actor.auth,
        **vars(draft.context),
    }
    title = columns.pop("title")
    told = {"title": title} if title else {}
    body = canonical({"v": VERSION, **columns, **told, "data": draft.data})
    link = link_hash(head.seq + 1, head.hash, body)
    return columns | {"body": body, "prev_hash": head.hash, "hash": link}, Head(seq=head.seq + 1, hash=link)


def _event_id(now: datetime) -> str:
    """Return a new id that begins with the time (as RFC 9562 5.7 does): what is written together lies together."""
    return f"e-{int(now.timestamp() * 1000):012x}{secrets.token_hex(6)}"


def link_hash(seq: int, prev_hash: bytes, body: bytes) -> bytes:
    """Return the hash that an event with this place and body must carry."""
    return sha256(DOMAIN + seq.to_bytes(8, "big") + prev_hash + sha256(body).digest()).digest()


def event_of(row: Any) -> Event:
    """Read an event from its row; the body is what counts."""
    body = json.loads(row.body)
    return Event(
        event_id=body["event_id"],
        chain_id=body["chain_id"],
        chain_seq=body["chain_seq"],
        kind=body["kind"],
        at=body["at"],
        actor=Actor(name=body["actor"], auth=body["actor_auth"]),
        context=Context(**{each.name: body.get(each.name) for each in fields(Context)}),
        data=body["data"],
    )


def _commit(salt: bytes, plain: bytes) -> str:
    return hmac.digest(salt, plain, "sha256").hex()
