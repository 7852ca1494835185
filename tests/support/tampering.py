"""What somebody who owns the database can do to the audit trail, and which event should betray it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, delete, select, text, update

from orchestrator.record.canonical import canonical
from orchestrator.record.tables import audit_event
from orchestrator.record.trail import link_hash

FAR = 1_000_000
"""A place that no chain reaches."""


class RolledBack(Exception):
    """Ends a transaction without a trace."""


class Betrayal(NamedTuple):
    """The first event of a chain that should not verify."""

    chain_id: str
    event_id: str


Attack = Callable[[Connection, list[Row[Any]], random.Random], set[Betrayal]]
"""Changes something in one chain (given in order, long enough) and tells what should betray it."""


def disarm(tx: Connection) -> None:
    """Take the guards away, as the owner of the database can."""
    if tx.dialect.name == "postgresql":
        tx.execute(text("ALTER TABLE audit_event DISABLE TRIGGER USER"))
        return
    for name in tx.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all():
        tx.execute(text(f"DROP TRIGGER {name}"))


def chain_of(tx: Connection, chain_id: str) -> list[Row[Any]]:
    """Return the rows of a chain, in order."""
    mine = select(audit_event).where(audit_event.c.chain_id == chain_id).order_by(audit_event.c.chain_seq)
    return list(tx.execute(mine).all())


def change(tx: Connection, row: Row[Any], **columns: object) -> None:
    """Change columns of one event."""
    tx.execute(update(audit_event).where(audit_event.c.event_id == row.event_id).values(**columns))


def remove(tx: Connection, *rows: Row[Any]) -> None:
    """Remove events."""
    tx.execute(delete(audit_event).where(audit_event.c.event_id.in_([row.event_id for row in rows])))


def betrayed_by(*rows: Row[Any]) -> set[Betrayal]:
    """Return the events as they are expected."""
    return {Betrayal(row.chain_id, row.event_id) for row in rows}


def flip_a_bit(column: str) -> Attack:
    """Return the attack that flips one bit of a binary column."""

    def attack(tx: Connection, chain: list[Row[Any]], rng: random.Random) -> set[Betrayal]:
        row = rng.choice(chain)
        changed = bytearray(getattr(row, column))
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        change(tx, row, **{column: bytes(changed)})
        return betrayed_by(row)

    return attack


def edit_column(column: str) -> Attack:
    """Return the attack that writes something else into a column."""

    def attack(tx: Connection, chain: list[Row[Any]], rng: random.Random) -> set[Betrayal]:
        row = rng.choice(chain)
        before = getattr(row, column)
        change(tx, row, **{column: (before or 0) + 1 if column == "step" else f"{before}x"})
        return {Betrayal(row.chain_id, f"{before}x" if column == "event_id" else row.event_id)}

    return attack


def move_to_another_chain(tx: Connection, chain: list[Row[Any]], rng: random.Random) -> set[Betrayal]:
    """Give an event to a chain of its own; the event after it is the first that is out of place."""
    place = rng.randrange(len(chain) - 1)
    change(tx, chain[place], chain_id="r-moved")
    return {Betrayal("r-moved", chain[place].event_id)} | betrayed_by(chain[place + 1])


def move_to_the_end(tx: Connection, chain: list[Row[Any]], rng: random.Random) -> set[Betrayal]:
    """Give an event a later place."""
    place = rng.randrange(len(chain) - 1)
    change(tx, chain[place], chain_seq=len(chain) + 1)
    return betrayed_by(chain[place + 1])


def delete_one(tx: Connection, chain: list[Row[Any]], rng: random.Random) -> set[Betrayal]:
    """Remove an event that is not the last."""
    place = rng.randrange(len(chain) - 1)
    remove(tx, chain[place])
    return betrayed_by(chain[place + 1])


def delete_and_close_up(tx: Connection, chain: list[Row[Any]], rng: random.Random) -> set[Betrayal]:
    """Remove an event that is not the last, and let the later ones move up."""
    place = rng.randrange(len(chain) - 1)
    remove(tx, chain[place])
    for row in chain[place + 1 :]:
        change(tx, row, chain_seq=row.chain_seq - 1)
    return betrayed_by(chain[place + 1])


def exchange_places(tx: Connection, chain: list[Row[Any]], rng: random.Random) -> set[Betrayal]:
    """Let two events of a chain change places."""
    first, second = sorted(rng.sample(chain, 2), key=lambda row: row.chain_seq)
    change(tx, first, chain_seq=FAR)
    change(tx, second, chain_seq=first.chain_seq)
    change(tx, first, chain_seq=second.chain_seq)
    return betrayed_by(second)


def exchange_contents(tx: Connection, chain: list[Row[Any]], rng: random.Random) -> set[Betrayal]:
    """Let two events of a chain change bodies and hashes."""
    first, second = sorted(rng.sample(chain, 2), key=lambda row: row.chain_seq)
    for row, other in ((first, second), (second, first)):
        change(tx, row, body=other.body, prev_hash=other.prev_hash, hash=other.hash)
    return betrayed_by(first)


def rewrite_body_and_hash(tx: Connection, chain: list[Row[Any]], rng: random.Random) -> set[Betrayal]:
    """Edit what an event says, with its column and its own hash; the next event betrays it."""
    place = rng.randrange(len(chain) - 1)
    rewrite(tx, chain[place], chain[place].prev_hash)
    return betrayed_by(chain[place + 1])


def insert_forgery(tx: Connection, chain: list[Row[Any]], rng: random.Random) -> set[Betrayal]:
    """Push an event in between; the next true event betrays it."""
    place = rng.randrange(len(chain) - 1)
    forged = chain[place]
    for row in reversed(chain[place + 1 :]):
        change(tx, row, chain_seq=row.chain_seq + 1)
    body = json.loads(forged.body) | {"event_id": f"{forged.event_id}-forged", "chain_seq": forged.chain_seq + 1}
    written = canonical(body)
    hashes = {"prev_hash": forged.hash, "hash": link_hash(body["chain_seq"], forged.hash, written)}
    columns = {name: body[name] for name in body if name not in ("v", "data")}
    tx.execute(audit_event.insert().values(**columns, body=written, **hashes))
    return betrayed_by(chain[place + 1])


def rewrite(tx: Connection, row: Row[Any], prev_hash: bytes) -> bytes:
    """Edit an event's actor consistently, and return its new hash."""
    body = canonical(json.loads(row.body) | {"actor": "operator:nobody"})
    new_hash = link_hash(row.chain_seq, prev_hash, body)
    change(tx, row, actor="operator:nobody", body=body, prev_hash=prev_hash, hash=new_hash)
    return new_hash


def rechain(tx: Connection, chain: Sequence[Row[Any]], place: int) -> None:
    """Edit an event and compute every later hash again: no chain can betray that."""
    prev_hash = rewrite(tx, chain[place], chain[place].prev_hash)
    for row in chain[place + 1 :]:
        link = link_hash(row.chain_seq, prev_hash, row.body)
        change(tx, row, prev_hash=prev_hash, hash=link)
        prev_hash = link
