from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

import pytest
from sqlalchemy import Connection, text

from orchestrator.record.record import Record
from orchestrator.record.tables import audit_event
from orchestrator.record.trail import Actor, Context, Draft, Head, Sealer, link_hash
from orchestrator.record.verify import Verification, verify
from tests.support.deep import cases
from tests.support.tampering import (
    FAR,
    Attack,
    Betrayal,
    RolledBack,
    chain_of,
    change,
    delete_and_close_up,
    delete_one,
    disarm,
    edit_column,
    exchange_contents,
    exchange_places,
    flip_a_bit,
    insert_forgery,
    move_to_another_chain,
    move_to_the_end,
    rechain,
    remove,
    rewrite,
    rewrite_body_and_hash,
)

CHAINS, EVENTS = 40, 2000
TEXT_COLUMNS = [
    column.name
    for column in audit_event.columns
    if column.name not in ("chain_id", "chain_seq", "body", "prev_hash", "hash")
]
ATTACKS: dict[str, Attack] = {
    **{f"a bit of {column} flipped": flip_a_bit(column) for column in ("body", "prev_hash", "hash")},
    **{f"column {column} edited": edit_column(column) for column in TEXT_COLUMNS},
    "column chain_id edited": move_to_another_chain,
    "column chain_seq edited": move_to_the_end,
    "row deleted": delete_one,
    "row deleted and closed up": delete_and_close_up,
    "rows exchanged": exchange_places,
    "contents exchanged": exchange_contents,
    "body and hash rewritten": rewrite_body_and_hash,
    "event pushed in": insert_forgery,
}


def write_log(record: Record, *, events: int = EVENTS, chains: int = CHAINS) -> None:
    with record.store.write() as tx:
        subject_ref = record.vault.subject(tx, None, record.clock())
        for chain in range(chains):
            drafts = [sample(f"r-{chain}", number, subject_ref) for number in range(events // chains)]
            record.trail.append(tx, f"r-{chain}", Head(), drafts, record.clock())


def sample(run_id: str, number: int, subject_ref: str) -> Draft:
    sealer = Sealer()
    data = {"number": number, "name": sealer(f"name {number}") if number % 10 == 0 else "ö"}
    context = Context(run_id=run_id, step=number % 7 or None, subject_ref=subject_ref)
    return Draft(kind="sample", context=context, data=data, sealer=sealer, actor=Actor(name="a", auth="b"))


def after(record: Record, tamper: Callable[[Connection], object]) -> Verification:
    """Verify after an attack, and undo it."""
    seen: list[Verification] = []
    with suppress(RolledBack), record.store.write() as tx:
        disarm(tx)
        tamper(tx)
        seen.append(verify(tx))
        raise RolledBack
    return seen[0]


def named(found: Verification) -> set[Betrayal]:
    return {Betrayal(breach.chain_id, breach.event_id) for breach in found.breaches}


def test_a_log_that_nobody_touched_verifies(record: Record) -> None:
    write_log(record, events=200)
    with record.store.read() as tx:
        assert verify(tx) == Verification(events=200, chains=CHAINS, breaches=())
        assert verify(tx, "r-7") == Verification(events=5, chains=1, breaches=())
        assert verify(tx, "r-none") == Verification(events=0, chains=0, breaches=())


def test_an_empty_log_verifies(record: Record) -> None:
    with record.store.read() as tx:
        assert verify(tx) == Verification(events=0, chains=0, breaches=())


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_found_and_the_first_bad_event_is_named(record: Record, name: str) -> None:
    write_log(record, events=60, chains=3)
    rng = random.Random(name)
    expected: set[Betrayal] = set()

    def tamper(tx: Connection) -> None:
        expected.update(ATTACKS[name](tx, chain_of(tx, "r-1"), rng))

    assert named(after(record, tamper)) == expected
    assert not after(record, lambda tx: None).breaches


def test_all_of_500_random_attacks_are_found_and_nothing_else(record: Record) -> None:
    """Twenty at a time, each in a chain of its own: the other twenty chains must not be suspected."""
    write_log(record)
    rng = random.Random(7)
    names = sorted(ATTACKS)
    names.remove("column chain_id edited")  # its chain "r-moved" can be attacked once at a time only
    for _ in range(cases(500, 20_000) // 20):
        expected: set[Betrayal] = set()
        targets = rng.sample(range(CHAINS), 20)

        def tamper(tx: Connection, targets: list[int] = targets, expected: set[Betrayal] = expected) -> None:
            for target in targets:
                expected.update(ATTACKS[rng.choice(names)](tx, chain_of(tx, f"r-{target}"), rng))

        assert named(after(record, tamper)) == expected
        assert len(expected) == 20
    with record.store.read() as tx:
        assert not verify(tx).breaches


def edit_last(tx: Connection) -> None:
    last = chain_of(tx, "r-1")[-1]
    rewrite(tx, last, last.prev_hash)


NOT_FOUND: dict[str, Callable[[Connection], None]] = {
    "one row cut off at the end": lambda tx: remove(tx, chain_of(tx, "r-1")[-1]),
    "many rows cut off at the end": lambda tx: remove(tx, *chain_of(tx, "r-1")[4:]),
    "a run removed whole": lambda tx: remove(tx, *chain_of(tx, "r-1")),
    "an edit with all later hashes computed again": lambda tx: rechain(tx, chain_of(tx, "r-1"), 3),
    "the last event edited with its hash": edit_last,
}


@pytest.mark.parametrize("name", NOT_FOUND)
def test_what_chains_alone_cannot_find_is_exactly_what_the_documentation_says(record: Record, name: str) -> None:
    write_log(record, events=60, chains=3)
    assert after(record, NOT_FOUND[name]).breaches == ()


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b'"text"', b"{}", b'{"v":1}', b"{", b"\xff\xfe", b"1e5", b"NaN", b"[" * 100_000, b"9" * 5000],
    ids=lambda body: repr(body[:12]),
)
def test_a_body_that_is_no_recorded_document_is_named_and_not_tripped_over(record: Record, body: bytes) -> None:
    write_log(record, events=9, chains=3)

    def tamper(tx: Connection) -> None:
        last = chain_of(tx, "r-1")[-1]
        change(tx, last, body=body, hash=link_hash(last.chain_seq, last.prev_hash, body))

    (breach,) = after(record, tamper).breaches
    assert (breach.chain_id, breach.chain_seq) == ("r-1", 3)
    assert "body" in breach.problem


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_event SET body = replace(body, 'sample', 'simple') WHERE chain_id = 'r-1' AND chain_seq = 2",
        "UPDATE audit_event SET hash = 'text' WHERE chain_id = 'r-1' AND chain_seq = 2",
        "UPDATE audit_event SET prev_hash = 5 WHERE chain_id = 'r-1' AND chain_seq = 2",
        "UPDATE audit_event SET kind = x'FF00' WHERE chain_id = 'r-1' AND chain_seq = 2",
        "UPDATE audit_event SET step = 'three' WHERE chain_id = 'r-1' AND chain_seq = 2",
        "UPDATE audit_event SET step = 0.5 WHERE chain_id = 'r-1' AND chain_seq = 2",
    ],
)
@pytest.mark.parametrize("record_url", ["sqlite"], indirect=True)
def test_values_of_another_type_are_named_and_not_tripped_over(record: Record, statement: str) -> None:
    """SQLite keeps any type in any column."""
    write_log(record, events=9, chains=3)
    (breach,) = after(record, lambda tx: tx.execute(text(statement))).breaches
    assert (breach.chain_id, breach.chain_seq) == ("r-1", 2)


@pytest.mark.parametrize("seq", [0, -1, FAR])
def test_a_place_that_cannot_be_is_named(record: Record, seq: int) -> None:
    write_log(record, events=3, chains=3)
    (breach,) = after(record, lambda tx: change(tx, chain_of(tx, "r-1")[0], chain_seq=seq)).breaches
    assert (breach.chain_id, breach.chain_seq) == ("r-1", seq)
    assert "missing" in breach.problem
