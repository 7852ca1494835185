"""What a run and a look-up cost when the record is small, and when it holds a million runs.

    python benchmarks/growth.py seed sqlite:////tmp/growth/1m.db --runs 1_000_000
    python benchmarks/growth.py compare sqlite:////tmp/growth/1k.db sqlite:////tmp/growth/1m.db

Seeded runs are copies of one that was truly executed (a webhook's delivery, its run, its case, a mail sent), each with
ids, times, keys, ciphertexts and hashes of its own: they verify, and their private values decrypt.
"""

from __future__ import annotations

import argparse
import json
import resource
import secrets
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, Table, insert, select, text

from flows.lost_download import lost_download
from orchestrator.builtin.inbox import DeliveryState, HostInbox
from orchestrator.builtin.people import HostPeople
from orchestrator.capabilities import Asset, Purchase
from orchestrator.gateway.accepting import Acceptance, Arrival
from orchestrator.gateway.hooks import Hook
from orchestrator.gateway.mapping import read_payload, request_from
from orchestrator.gateway.verification import Proof
from orchestrator.kernel.consistency import audit
from orchestrator.kernel.kernel import Kernel
from orchestrator.kernel.resolution import open_effects
from orchestrator.kernel.runs import Runs, RunState
from orchestrator.kernel.steps import Bound
from orchestrator.ledger.model import effect_id
from orchestrator.plugins.standard import STANDARD
from orchestrator.record.clock import moment, stamp
from orchestrator.record.record import Record, open_record
from orchestrator.record.tables import audit_event, audit_private, customer_case, effect, inbox, run, subject_key
from orchestrator.record.trail import GENESIS, link_hash
from orchestrator.record.vault import NONCE_BYTES
from orchestrator.record.verify import verify
from orchestrator.testing.files import FakeFiles
from orchestrator.testing.mail import FakeMailer
from orchestrator.testing.orders import FakeOrders

BOOK = Asset(key="books/watercolor.pdf")
RUNS_A_CUSTOMER = 4
SPAN = timedelta(days=365)
"""Seeded runs lie within so long before now."""
CHUNK = 2000
"""Runs in one transaction of the seeding."""
TEXTS = "0" * 300
"""A webhook's payload holds more than what is read from it."""


class EverybodyBought(FakeOrders):
    """Whoever asks has bought the book."""

    def purchases_of(self, email: str) -> tuple[Purchase, ...]:
        """Return one purchase."""
        bought = {"order": "17", "product": "Watercolor", "email": email, "bought_on": date(2026, 1, 1)}
        return (Purchase(asset=BOOK, **bought),)


class Shop:
    """The host as it serves a shop, with stand-ins for the systems.

    Args:
        record: Where runs are written down.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.runs = Runs(record)
        self.process = lost_download.definition
        systems = {"order_records": EverybodyBought(), "file_links": FakeFiles(BOOK), "mailer": FakeMailer()}
        self._systems: dict[str, Any] = {**systems, "people": HostPeople(record)}
        self.kernel = Kernel(record, self.runs, self._bind, owner="growth")
        proof = Proof(scheme="standard-webhooks", keys=(b"k" * 32,), tolerance=300, header=None)
        sources = {"email": "/customer/email", "product": "/product"}
        self._hook = Hook(name="shop", process=self.process, proof=proof, max_bytes=10_000, sources=sources)
        self._acceptance = Acceptance(record, self.runs)

    def _bind(self, _process: str, protocol: type) -> Bound:
        capability = STANDARD.of(protocol)
        name = capability.name
        return Bound(capability=capability, connection=name, version="1", instance=self._systems[name])

    def serve(self, key: str, email: str) -> str:
        """Take a delivery in and execute its run; return the run's id."""
        body = json.dumps({"id": key, "customer": {"email": email}, "product": "watercolor", "more": TEXTS}).encode()
        request = request_from(read_payload(body), self._hook.sources, self.process.request)
        arrival = Arrival(hook=self._hook, key=key, body=body, received_at=datetime.now(UTC), request=request)
        (accepted,) = self._acceptance.accept([arrival])
        run_id = f"r-{accepted.delivery[2:]}"
        self.kernel.execute(self.process, run_id)
        return run_id


# --- seeding -----------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Template:
    """The rows of one run that was truly executed."""

    events: list[dict[str, Any]]
    private: dict[str, list[tuple[str, bytes]]]
    """Event to commitments and the secrets behind them."""
    run: dict[str, Any]
    case: dict[str, Any]
    delivery: dict[str, Any]
    body: bytes
    effects: list[dict[str, Any]]


@dataclass(kw_only=True)
class Customer:
    """A person that the record knows."""

    subject_ref: str
    case_id: str
    key: AESGCM


def template(shop: Shop) -> Template:
    """Execute one run and read what it left."""
    run_id = shop.serve("k-0000000000", "template@example.com")
    record = shop.record
    with record.store.read() as tx:
        ran = _one(tx, run, run.c.run_id == run_id)
        held = _one(tx, inbox, inbox.c.run_id == run_id)
        place = f"inbox/{held['delivery']}"
        plain = record.vault.decrypt(tx, held["subject_ref"], held["nonce"], held["ciphertext"], bound_to=place)
        events = _all(tx, audit_event, audit_event.c.chain_id == run_id)
        events.sort(key=lambda row: row["chain_seq"])
        return Template(
            events=events,
            private={row["event_id"]: _secrets(tx, record, row["event_id"]) for row in events},
            run=ran,
            case=_one(tx, customer_case, customer_case.c.case_id == ran["case_id"]),
            delivery=held,
            body=plain,
            effects=_all(tx, effect, effect.c.run_id == run_id),
        )


def _secrets(tx: Connection, record: Record, event_id: str) -> list[tuple[str, bytes]]:
    rows = tx.execute(select(audit_private).where(audit_private.c.event_id == event_id)).all()
    return [
        (row.commitment, record.vault.decrypt(tx, row.subject_ref, row.nonce, row.ciphertext, bound_to=_place(row)))
        for row in rows
    ]


def _place(row: Any) -> str:
    return f"{row.event_id}/{row.commitment}"


def _one(tx: Connection, table: Table, condition: Any) -> dict[str, Any]:
    (row,) = _all(tx, table, condition)
    return row


def _all(tx: Connection, table: Table, condition: Any) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in tx.execute(select(table).where(condition))]


@dataclass
class Copies:
    """Makes copies of a template: the rows of many runs.

    Args:
        record: Where they go.
        template: What they are like.
        runs: How many.
    """

    record: Record
    template: Template
    runs: int
    rows: dict[Table, list[dict[str, Any]]] = field(default_factory=dict)
    _customers: dict[int, Customer] = field(default_factory=dict)

    def chunks(self) -> Iterator[dict[Table, list[dict[str, Any]]]]:
        """Yield rows by table, in an order that foreign keys allow."""
        numbers = iter(range(1, self.runs + 1))
        while chunk := list(islice(numbers, CHUNK)):
            self.rows = {table: [] for table in (subject_key, customer_case, run, inbox, effect, audit_event)}
            self.rows[audit_private] = []
            for number in chunk:
                self._copy(number)
            yield self.rows

    def _copy(self, number: int) -> None:
        at = stamp(datetime.now(UTC) - SPAN + SPAN * number / (self.runs + 1))
        customer = self._customer((number - 1) // RUNS_A_CUSTOMER, at)
        old, digits = self.template, f"{number:024x}"[::-1]  # scattered over the indexes, as digests are
        run_id = f"r-{digits}"
        ids = {
            old.run["run_id"]: run_id,
            str(old.run["case_id"]): customer.case_id,
            old.run["subject_ref"]: customer.subject_ref,
            old.delivery["delivery"]: f"d-{digits}",
            old.delivery["source_key"]: f"k-{number:010d}",
        }
        for done in old.effects:
            ids[done["effect_id"]] = effect_id(run_id, done["step"], f"{done['capability']}.{done['operation']}")
        self._add(run, old.run, ids, at, prefect_run_id=None)
        self._deliver(ids, at, customer)
        for done in old.effects:
            self._add(effect, done, ids, at)
        self._events(ids, at, customer)

    def _customer(self, number: int, at: str) -> Customer:
        if number not in self._customers:
            self._customers = {number: self._new_customer(number, at)}
        return self._customers[number]

    def _new_customer(self, number: int, at: str) -> Customer:
        vault, plain = self.record.vault, AESGCM.generate_key(bit_length=256)
        digits = f"{number:024x}"[::-1]
        ref, nonce = f"s-{digits}", secrets.token_bytes(NONCE_BYTES)
        lookup = vault.lookup(address(number))
        wrapped = vault._wrap.encrypt(nonce, plain, ref.encode())
        keyed = {"subject_ref": ref, "lookup": lookup, "nonce": nonce, "wrapped_key": wrapped, "created_at": at}
        self.rows[subject_key].append(keyed)
        case_id = f"c-{digits}"
        case = {"case_id": case_id, "lookup": lookup, "subject_ref": ref, "opened_at": at, "answered_at": at}
        self.rows[customer_case].append({**self.template.case, **case})
        return Customer(subject_ref=ref, case_id=case_id, key=AESGCM(plain))

    def _deliver(self, ids: Mapping[str, str], at: str, customer: Customer) -> None:
        delivery = ids[self.template.delivery["delivery"]]
        nonce = secrets.token_bytes(NONCE_BYTES)
        ciphertext = customer.key.encrypt(nonce, self.template.body, f"inbox/{delivery}".encode())
        body = {"nonce": nonce, "ciphertext": ciphertext, "fingerprint": f"{delivery[2:]:0>64}"}
        self._add(inbox, self.template.delivery, ids, at, **body)

    def _events(self, ids: dict[str, str], at: str, customer: Customer) -> None:
        milliseconds, digits = int(moment(at).timestamp() * 1000), ids[self.template.run["run_id"]][2:10]
        head = GENESIS
        for row in self.template.events:
            event = f"e-{milliseconds:012x}{digits}{row['chain_seq']:04x}"
            new = {**ids, row["event_id"]: event, row["at"]: at}
            body = row["body"]
            for before, after in new.items():
                body = body.replace(before.encode(), after.encode())
            link = link_hash(row["chain_seq"], head, body)
            self._add(audit_event, row, new, at, body=body, prev_hash=head, hash=link)
            head = link
            for commitment, secret in self.template.private[row["event_id"]]:
                nonce = secrets.token_bytes(NONCE_BYTES)
                ciphertext = customer.key.encrypt(nonce, secret, f"{event}/{commitment}".encode())
                kept = (event, commitment, customer.subject_ref, nonce, ciphertext)
                self.rows[audit_private].append(dict(zip(audit_private.c.keys(), kept, strict=True)))

    def _add(self, table: Table, row: dict[str, Any], ids: Mapping[str, str], at: str, **changed: Any) -> None:
        new = {name: ids.get(value, value) if isinstance(value, str) else value for name, value in row.items()}
        new |= {name: at for name in row if name.endswith("_at") and row[name] is not None}
        self.rows[table].append(new | changed)


def address(number: int) -> str:
    """Return a seeded customer's address."""
    return f"customer-{number}@example.com"


def seed(record: Record, runs: int) -> None:
    """Fill a record with runs that verify."""
    copies = Copies(record, template(Shop(record)), runs)
    done, began = 0, time.monotonic()
    for rows in copies.chunks():
        with record.store.write() as tx:
            for table, chunk in rows.items():
                _bulk(tx, table, chunk)
        done += len(rows[run])
        if done % (50 * CHUNK) == 0:
            print(f"{done} runs, {time.monotonic() - began:.0f} s", flush=True)
    if record.store.dialect == "postgresql":
        with record.store.write() as tx:
            tx.execute(text("ANALYZE"))


def _bulk(tx: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    columns = table.c.keys()
    if tx.dialect.name != "postgresql":
        tx.exec_driver_sql("PRAGMA cache_size = -1000000")
        statement = str(insert(table).compile(dialect=tx.dialect))
        tx.exec_driver_sql(statement, [tuple(row[name] for name in columns) for row in rows])
        return
    driver: Any = tx.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {table.name} ({', '.join(columns)}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row([row[name] for name in columns])


# --- measuring ---------------------------------------------------------------------------------------------------


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
