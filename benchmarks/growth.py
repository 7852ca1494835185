"""What a run and a look-up cost when the record is small, and when it holds a million runs.

    python -m benchmarks.growth seed sqlite:////tmp/growth/1m.db --runs 1_000_000
    python -m benchmarks.growth compare sqlite:////tmp/growth/1k.db sqlite:////tmp/growth/1m.db

Seeded runs are copies of one that was truly executed (a webhook's delivery, its run, its case, a mail sent), each with
ids, times, keys, ciphertexts and hashes of its own: they verify, and their private values decrypt.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import select, text

from benchmarks.seeding import RUNS_A_CUSTOMER, Shop, address, seed
from orchestrator.builtin.inbox import DeliveryState, HostInbox
from orchestrator.builtin.people import HostPeople
from orchestrator.kernel.consistency import audit
from orchestrator.kernel.resolution import open_effects
from orchestrator.kernel.runs import RunState
from orchestrator.record.record import Record, open_record
from orchestrator.record.tables import audit_event, inbox
from orchestrator.record.trail import link_hash
from orchestrator.record.verify import verify


class LookUps:
    """Every look-up that people, the worker and the mirror make.

    Args:
        shop: The host on its record.
        seeded: How many runs were seeded.
    """

    def __init__(self, shop: Shop, seeded: int) -> None:
        self._shop = shop
        self._middle = seeded // 2 // RUNS_A_CUSTOMER
        self._some_run = f"r-{f'{seeded // 2:024x}'[::-1]}"
        self._served = 0

    def all(self) -> dict[str, Callable[[], object]]:
        """Return them by name."""
        shop, record = self._shop, self._shop.record
        stored, people = HostInbox(record), HostPeople(record)
        return {
            "one run, from its delivery to its end": self._serve,
            "runs": lambda: shop.runs.listed(limit=20),
            "runs --state parked": lambda: shop.runs.listed(state=RunState.PARKED, limit=20),
            "runs --state done": lambda: shop.runs.listed(state=RunState.DONE, limit=20),
            "runs --customer": self._of_customer,
            "due runs": lambda: shop.runs.due(limit=8),
            "inbox": lambda: stored.listed(limit=50),
            "inbox --state started": lambda: stored.listed(state=DeliveryState.STARTED, limit=50),
            "inbox --state for-person": lambda: stored.listed(state=DeliveryState.FOR_PERSON, limit=50),
            "decisions": people.open_questions,
            "effects": lambda: open_effects(record),
            "audit show": self._show,
            "audit tail": self._tail,
        }

    def _serve(self) -> None:
        self._served += 1
        self._shop.serve(f"new-{time.time_ns()}", address(self._middle + self._served))

    def _of_customer(self) -> None:
        with self._shop.record.store.read() as tx:
            subject = self._shop.record.vault.find(tx, address(self._middle))
        assert self._shop.runs.listed(subject_ref=subject, limit=20)

    def _show(self) -> None:
        with self._shop.record.store.read() as tx:
            assert self._shop.record.trail.chain(tx, self._some_run)

    def _tail(self) -> None:
        with self._shop.record.store.read() as tx:
            self._shop.record.trail.latest(tx, limit=20)


def compare(records: Sequence[Record], repeat: int) -> dict[str, list[float]]:
    """Return the median milliseconds of each look-up in each record, measured in turns."""
    each = [LookUps(Shop(record), _seeded(record)).all() for record in records]
    seen: dict[str, list[list[float]]] = {name: [[] for _ in records] for name in each[0]}
    for name in seen:
        for turn in range(repeat + 3):
            for number, look_ups in enumerate(each):
                began = time.perf_counter()
                look_ups[name]()
                if turn >= 3:
                    seen[name][number].append((time.perf_counter() - began) * 1000)
    return {name: [statistics.median(times) for times in found] for name, found in seen.items()}


def _seeded(record: Record) -> int:
    with record.store.read() as tx:
        newest = select(inbox.c.source_key).where(inbox.c.source_key.like("k-%")).order_by(inbox.c.source_key.desc())
        return int(tx.execute(newest.limit(1)).scalar_one()[2:])


def prove(record: Record) -> dict[str, float]:
    """Verify the whole record; compare with the trail alone, and with the floor: reading every body and hashing it."""
    began = time.process_time()
    found = audit(record)
    seconds = time.process_time() - began
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.process_time()
    with record.store.read() as tx:
        verify(tx)
    trail = time.process_time() - began
    began = time.process_time()
    with record.store.read() as tx:
        chosen = select(audit_event.c.chain_seq, audit_event.c.prev_hash, audit_event.c.body)
        for seq, before, body in tx.execute(chosen.execution_options(yield_per=1000)):
            link_hash(seq, before, body)
    floor = time.process_time() - began
    wrong = len(found.breaches) + len(found.mismatches)
    times = {"cpu s": seconds, "trail s": trail, "floor s": floor}
    return {"events": found.events, "wrong": wrong, **times, "MB": resident}


def sizes(record: Record) -> dict[str, int]:
    """Return the bytes of each table with its indexes."""
    if record.store.dialect == "postgresql":
        query = "SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relname = ANY(:names)"
        names = [table.name for table in audit_event.metadata.sorted_tables]
        with record.store.read() as tx:
            return {row[0]: row[1] for row in tx.execute(text(query), {"names": names})}
    query = "SELECT m.tbl_name, sum(s.pgsize) FROM dbstat s JOIN sqlite_master m ON m.name = s.name GROUP BY m.tbl_name"
    with record.store.read() as tx:
        return {row[0]: row[1] for row in tx.execute(text(query))}


def main() -> None:
    """Seed, compare, verify or weigh."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["seed", "compare", "verify", "sizes"])
    parser.add_argument("urls", nargs="+")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=30)
    parser.add_argument("--key-file", type=Path, default=Path("/tmp/growth/key"))
    options = parser.parse_args()
    records = [open_record(url, options.key_file) for url in options.urls]
    match options.what:
        case "seed":
            seed(records[0], options.runs)
        case "compare":
            for name, times in compare(records, options.repeat).items():
                ratio = f"  x{times[-1] / times[0]:.2f}" if len(times) > 1 else ""
                print(f"{name:40}", "".join(f"{ms:10.3f} ms" for ms in times), ratio)
        case "verify":
            print({name: round(value, 2) for name, value in prove(records[0]).items()})
        case "sizes":
            print(sizes(records[0]))
    for record in records:
        record.store.close()


if __name__ == "__main__":
    main()
