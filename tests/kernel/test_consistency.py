"""Private values, runs and effects are held against the events that made them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert, select, update

from orchestrator.errors import RunError, Unavailable
from orchestrator.kernel.cancellation import cancel
from orchestrator.kernel.consistency import RunsAndEffects
from orchestrator.kernel.runs import RunState
from orchestrator.ledger.states import State
from orchestrator.plugins import DoubtClass
from orchestrator.record.private_values import PrivateValues
from orchestrator.record.record import Record
from orchestrator.record.tables import audit_private, effect, run, subject_key
from orchestrator.record.verify import verify
from tests.support.kernel_bench import ANN, Bench, FakeSystem, process, send_link, send_one
from tests.support.tampering import RolledBack, chain_of, disarm, remove

SEND_LINK, SEND_ONE = process(send_link), process(send_one)


def ran(bench: Bench) -> str:
    """Execute a run to its end."""
    run_id = bench.open(SEND_LINK)
    bench.kernel.execute(SEND_LINK, run_id)
    return run_id


def after(record: Record, tamper: Callable[[Connection], object]) -> list[tuple[str, str]]:
    """Audit after somebody changed something, and undo it."""
    found: list[tuple[str, str]] = []
    with suppress(RolledBack), record.store.write() as tx:
        disarm(tx)
        tamper(tx)
        watchers = [PrivateValues(tx, record.trail), RunsAndEffects(tx)]
        found += [(each.where, each.problem) for each in verify(tx, watchers=watchers).mismatches]
        raise RolledBack
    return found


def a_value(tx: Connection, place: int = 0) -> Any:
    """Return the private values' rows, in order."""
    return tx.execute(select(audit_private).order_by(audit_private.c.event_id, audit_private.c.commitment)).all()[place]


def mine(row: Any) -> Any:
    return (audit_private.c.event_id == row.event_id) & (audit_private.c.commitment == row.commitment)


def change_value(tx: Connection, **columns: Any) -> None:
    row = a_value(tx)
    tx.execute(update(audit_private).where(mine(row)).values(**columns))


def exchange_values(tx: Connection) -> None:
    first, second = a_value(tx), a_value(tx, 1)
    for row, other in ((first, second), (second, first)):
        content = {"nonce": other.nonce, "ciphertext": other.ciphertext}
        tx.execute(update(audit_private).where(mine(row)).values(content))


def copy_value(tx: Connection, **columns: Any) -> None:
    tx.execute(insert(audit_private).values({**a_value(tx)._mapping, **columns}))


def flip(ciphertext: bytes) -> bytes:
    return bytes([ciphertext[0] ^ 1]) + ciphertext[1:]


NOBODYS = "a private value lies there that it does not hold"
CHANGED = "a private value of it was changed: it does not decrypt, or does not fit its commitment"
ATTACKS: dict[str, tuple[Callable[[Connection, str], object], list[str]]] = {
    "a private value is changed": (
        lambda tx, _: change_value(tx, ciphertext=flip(a_value(tx).ciphertext)),
        [CHANGED],
    ),
    "private values are exchanged": (lambda tx, _: exchange_values(tx), [CHANGED, CHANGED]),
    "a private value is removed": (
        lambda tx, _: tx.execute(delete(audit_private).where(mine(a_value(tx)))),
        ["1 of its private values are gone, and its person was not erased"],
    ),
    "a private value is given to somebody else": (
        lambda tx, _: change_value(tx, subject_ref="s-else"),
        ["a private value of it was given to another person"],
    ),
    "a private value is added to an event": (
        lambda tx, _: copy_value(tx, commitment="0" * 64),
        [NOBODYS],
    ),
    "a private value is added to no event": (
        lambda tx, _: copy_value(tx, event_id="e-none"),
        [NOBODYS],
    ),
    "an effect is said to have happened otherwise": (
        lambda tx, _: tx.execute(update(effect).where(effect.c.step == 3).values(state=State.REJECTED)),
        ["is rejected at attempt 1, and its events leave it confirmed at attempt 1"],
    ),
    "an attempt is forgotten": (
        lambda tx, _: tx.execute(update(effect).where(effect.c.step == 3).values(attempt=2)),
        ["is confirmed at attempt 2, and its events leave it confirmed at attempt 1"],
    ),
    "an effect is removed": (
        lambda tx, _: tx.execute(delete(effect).where(effect.c.step == 3)),
        ["is missing, and its events are there"],
    ),
    "an effect is invented": (
        lambda tx, _: tx.execute(
            insert(effect).values({**tx.execute(select(effect).limit(1)).one()._mapping, "effect_id": "f-new"})
        ),
        ["has no events"],
    ),
    "a run is made ready again": (
        lambda tx, _: tx.execute(update(run).values(state=RunState.READY)),
        ["is ready, and its last event is run.finished"],
    ),
    "a run is said to have failed": (
        lambda tx, _: tx.execute(update(run).values(state=RunState.FAILED)),
        ["is failed, and its last event is run.finished"],
    ),
    "the end of a run's chain is cut off": (
        lambda tx, run_id: remove(tx, chain_of(tx, run_id)[-1]),
        [NOBODYS, NOBODYS, "is done, and its last event is run.opened"],
    ),
    "a run's chain is removed whole": (
        lambda tx, run_id: (tx.execute(delete(audit_private)), remove(tx, *chain_of(tx, run_id))),
        ["has no events"],
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_does_not_fit_the_events_is_named_and_nothing_else(bench: Bench, name: str) -> None:
    run_id = ran(bench)
    tamper, problems = ATTACKS[name]
    found = after(bench.record, lambda tx: tamper(tx, run_id))
    assert [problem for _, problem in found] == problems


@pytest.mark.parametrize("also_values", [False, True])
def test_a_person_who_was_erased_is_no_mismatch(bench: Bench, *, also_values: bool) -> None:
    ran(bench)

    def erase(tx: Connection) -> None:
        tx.execute(delete(subject_key))
        if also_values:
            tx.execute(delete(audit_private))

    assert after(bench.record, erase) == []


def test_a_run_and_its_effect_may_stand_anywhere_on_their_way(bench: Bench, system: FakeSystem) -> None:
    """Opened, in doubt, parked for a person, woken, cancelled: the events say the same."""
    bench.open(SEND_ONE)
    system.doubt = DoubtClass.NONE
    system.after.append(Unavailable("lost"))
    parked = bench.open(SEND_ONE)
    with suppress(RunError):
        bench.kernel.execute(SEND_ONE, parked)
    assert bench.run(parked).state is RunState.PARKED
    assert after(bench.record, lambda _: None) == []
    bench.runs.resume(parked, ANN)
    assert after(bench.record, lambda _: None) == []
    cancel(bench.record, parked, ANN)
    assert bench.run(parked).state is RunState.CANCELLED
    assert after(bench.record, lambda _: None) == []


def test_more_than_one_batch_is_held_against_the_events(bench: Bench) -> None:
    count = 1_001
    opened = [bench.open(SEND_ONE) for _ in range(count)]
    wrong = {opened[0], opened[500], opened[-1]}
    found = after(
        bench.record, lambda tx: tx.execute(update(run).where(run.c.run_id.in_(wrong)).values(state=RunState.DONE))
    )
    assert {where for where, _ in found} == {f"run {run_id}" for run_id in wrong}
