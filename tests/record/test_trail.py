from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete, inspect, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from orchestrator.errors import RecordError
from orchestrator.record.record import Record
from orchestrator.record.tables import audit_event, audit_private
from orchestrator.record.trail import GENESIS, Actor, Context, Draft, Head, Sealer, link_hash
from orchestrator.record.verify import verify
from tests.support.clock import HandClock

REST = "kind, at, actor, actor_auth, body, prev_hash, hash"
NOT_NULL = f"event_id, chain_id, chain_seq, {REST}"
ANN = Actor(name="operator:ann", auth="cli")
CANARIES = [f"canary-{n}-{word}" for n, word in enumerate(["anna@example.com", "Ünï", "0049 170", "https://x/?sig=1"])]


def append(record: Record, *drafts: Draft, chain: str = "r-1") -> None:
    with record.store.write() as tx:
        for draft in drafts:
            record.trail.append_alone(tx, chain, draft, record.clock())


def private_event(record: Record, *values: object, address: str | None = None) -> Draft:
    sealer = Sealer()
    with record.store.write() as tx:
        subject_ref = record.vault.subject(tx, address, record.clock())
    data = {"values": [sealer(value) for value in values]}
    return Draft(kind="sample", context=Context(run_id="r-1", subject_ref=subject_ref), data=data, sealer=sealer)


def test_an_event_is_read_back_as_it_was_written(record: Record) -> None:
    context = Context(
        case_id="c-1",
        run_id="r-1",
        prefect_run_id="p-1",
        process="lost-download",
        process_version="1",
        step=3,
        capability="mailer",
        operation="send",
        connection="post",
        connector_version="2",
        effect_id="f-1",
        subject_ref="s-1",
    )
    append(record, Draft(kind="sample", context=context, data={"a": [1, None, "ö"]}, actor=ANN))
    with record.store.read() as tx:
        (event,) = record.trail.chain(tx, "r-1")
    assert (event.kind, event.chain_id, event.chain_seq) == ("sample", "r-1", 1)
    assert (event.actor, event.context, event.data) == (ANN, context, {"a": [1, None, "ö"]})
    assert event.at == "2026-03-01T09:00:00.000000Z"


def test_every_event_continues_the_one_before_it(record: Record) -> None:
    append(record, *[Draft(kind=f"k{n}", context=Context()) for n in range(4)])
    with record.store.read() as tx:
        rows = tx.execute(select(audit_event).order_by(audit_event.c.chain_seq)).all()
        head = record.trail.head(tx, "r-1")
    assert [row.chain_seq for row in rows] == [1, 2, 3, 4]
    assert [row.prev_hash for row in rows] == [GENESIS, *[row.hash for row in rows[:-1]]]
    assert head == Head(seq=4, hash=rows[-1].hash)


def test_the_hash_of_an_event_covers_its_place_its_predecessor_and_its_body() -> None:
    """Spelt out, so that a verifier of another hand can be written from it."""
    covered = b"orchestrator/audit/v1\0" + (7).to_bytes(8, "big") + b"p" * 32 + sha256(b"{}").digest()
    assert link_hash(7, b"p" * 32, b"{}") == sha256(covered).digest()


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE audit_event SET actor = 'nobody'",
        "DELETE FROM audit_event",
        "DELETE FROM audit_event WHERE chain_seq = 1",
        "INSERT OR REPLACE INTO audit_event SELECT * FROM audit_event",
        "REPLACE INTO audit_event SELECT * FROM audit_event WHERE chain_seq = 1",
        f"REPLACE INTO audit_event (rowid, {NOT_NULL}) SELECT 1, 'e-x', 'r-x', 1, {REST} FROM audit_event LIMIT 1",
        "UPDATE OR REPLACE audit_event SET chain_seq = 2 WHERE chain_seq = 1",
        "INSERT INTO audit_event SELECT * FROM audit_event WHERE true ON CONFLICT (event_id) DO UPDATE SET actor = 'x'",
        "TRUNCATE audit_event",
        "TRUNCATE audit_event, audit_private CASCADE",
    ],
)
def test_no_statement_changes_or_removes_an_event(record: Record, attack: str) -> None:
    append(record, *[Draft(kind="sample", context=Context(), actor=ANN)] * 2)
    before = rows_of(record)
    with pytest.raises(DBAPIError), record.store.write() as tx:
        tx.execute(text(attack))
    assert rows_of(record) == before
    assert len(before) == 2


@pytest.mark.parametrize(
    "attack", [update(audit_event).values(kind="x"), delete(audit_event)], ids=["update", "delete"]
)
def test_the_refusal_names_its_reason(record: Record, attack: object) -> None:
    append(record, Draft(kind="sample", context=Context()))
    with pytest.raises(DBAPIError, match="audit_event is append-only"), record.store.write() as tx:
        tx.execute(attack)  # type: ignore[call-overload]


def test_two_events_cannot_stand_at_one_place_of_a_chain(record: Record, reopen: Callable[[], Record]) -> None:
    other = reopen()
    with record.store.read() as tx:
        head = record.trail.head(tx, "r-1")
    append(other, Draft(kind="first", context=Context()))
    with pytest.raises(IntegrityError), record.store.write() as tx:
        record.trail.append(tx, "r-1", head, [Draft(kind="fork", context=Context())], record.clock())
    with record.store.read() as tx:
        assert [event.kind for event in record.trail.chain(tx, "r-1")] == ["first"]
        assert not verify(tx).breaches


def test_what_is_appended_in_a_failed_transaction_is_gone(record: Record) -> None:
    with suppress(KeyError), record.store.write() as tx:
        record.trail.append_alone(tx, "r-1", Draft(kind="sample", context=Context()), record.clock())
        raise KeyError
    assert rows_of(record) == []


def test_a_document_without_a_canonical_form_is_not_written(record: Record) -> None:
    with pytest.raises(ValueError, match="float"), record.store.write() as tx:
        record.trail.append_alone(tx, "r-1", Draft(kind="s", context=Context(), data={"x": 0.5}), record.clock())
    assert rows_of(record) == []


def test_private_values_come_back_under_their_commitments(record: Record) -> None:
    draft = private_event(record, "secret", {"deep": [1, None, 2.5]}, None)
    append(record, draft)
    with record.store.read() as tx:
        (event,) = record.trail.chain(tx, "r-1")
        private = record.trail.private_values(tx, [event.event_id])
    assert [private[value["$p"]] for value in event.data["values"]] == ["secret", {"deep": [1, None, 2.5]}, None]


def test_the_same_value_has_another_commitment_each_time() -> None:
    sealer = Sealer()
    assert len({sealer("secret")["$p"] for _ in range(10)}) == 10


def test_private_values_need_a_person_they_belong_to(record: Record) -> None:
    sealer = Sealer()
    draft = Draft(kind="sample", context=Context(), data={"x": sealer("secret")}, sealer=sealer)
    with pytest.raises(RecordError, match="no person"):
        append(record, draft)
    assert rows_of(record) == []


def test_no_private_value_lies_open_anywhere_in_the_database(record: Record, tmp_path: Path) -> None:
    append(record, *[private_event(record, canary, [canary], address=canary) for canary in CANARIES])
    for haystack in everything_stored(record, tmp_path):
        for canary in CANARIES:
            assert canary.encode() not in haystack
            assert canary.encode("unicode_escape") not in haystack
            assert canary.casefold().encode() not in haystack


def test_the_search_for_canaries_finds_what_lies_open(record: Record, tmp_path: Path) -> None:
    append(record, Draft(kind="sample", context=Context(), data={"open": CANARIES[0]}))
    assert any(CANARIES[0].encode() in haystack for haystack in everything_stored(record, tmp_path))


def test_a_private_value_under_another_commitment_is_refused(record: Record) -> None:
    append(record, private_event(record, "one"), private_event(record, "two"))
    with record.store.write() as tx:
        first, second = tx.execute(select(audit_private)).all()
        sealed = {"subject_ref": second.subject_ref, "nonce": second.nonce, "ciphertext": second.ciphertext}
        tx.execute(update(audit_private).where(audit_private.c.event_id == first.event_id).values(**sealed))
    with record.store.read() as tx, pytest.raises(RecordError, match="does not decrypt"):
        record.trail.private_values(tx, [first.event_id])


def test_a_commitment_that_its_value_does_not_fit_is_refused(record: Record) -> None:
    append(record, private_event(record, "one"))
    with record.store.write() as tx:
        row = tx.execute(select(audit_private)).one()
        nonce, forged = record.vault.encrypt(
            tx, row.subject_ref, bytes(32) + b'"two"', bound_to=f"{row.event_id}/{row.commitment}"
        )
        tx.execute(update(audit_private).values(nonce=nonce, ciphertext=forged))
    with record.store.read() as tx, pytest.raises(RecordError, match="does not fit its commitment"):
        record.trail.private_values(tx, [row.event_id])


def test_the_newest_events_of_all_chains_are_listed_oldest_first(record: Record, clock: HandClock) -> None:
    for n in range(5):
        clock.advance(seconds=1)
        append(record, Draft(kind=f"k{n}", context=Context()), chain=f"r-{n % 2}")
    with record.store.read() as tx:
        assert [event.kind for event in record.trail.latest(tx, limit=3)] == ["k2", "k3", "k4"]


def rows_of(record: Record) -> list[tuple[object, ...]]:
    with record.store.read() as tx:
        rows = tx.execute(select(audit_event).order_by(audit_event.c.chain_id, audit_event.c.chain_seq))
        return [tuple(row) for row in rows]


def everything_stored(record: Record, folder: Path) -> Iterator[bytes]:
    """Yield every row of every table, and for SQLite every byte of its files and its write-ahead log."""
    with record.store.read() as tx:
        for table in inspect(tx).get_table_names():
            yield from rows_as_bytes(tx, table)
    if record.store.dialect == "sqlite":
        assert (folder / "record.db-wal").stat().st_size > 0
        yield from (path.read_bytes() for path in folder.glob("record.db*"))
        with closing(sqlite3.connect(folder / "record.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        yield (folder / "record.db").read_bytes()


def rows_as_bytes(tx: Connection, table: str) -> Iterator[bytes]:
    for row in tx.execute(text(f"SELECT * FROM {table}")):
        yield b"\0".join(value if isinstance(value, bytes) else str(value).encode() for value in row)
