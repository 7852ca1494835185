"""Records that hold many runs: copies of one that was truly executed, each with ids, keys and hashes of its own."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, Table, insert, select, text

from flows.lost_download import lost_download
from orchestrator.builtin.cases import HostCases
from orchestrator.builtin.inbox import HostInbox
from orchestrator.builtin.people import HostPeople
from orchestrator.capabilities import Asset, Purchase
from orchestrator.gateway.accepting import Acceptance, Arrival
from orchestrator.gateway.hooks import Hook
from orchestrator.gateway.mapping import read_payload, request_from
from orchestrator.gateway.verification import Proof
from orchestrator.kernel.kernel import Kernel
from orchestrator.kernel.runs import Runs
from orchestrator.kernel.steps import Bound
from orchestrator.ledger.model import effect_id
from orchestrator.plugins.standard import STANDARD
from orchestrator.record.clock import moment, stamp
from orchestrator.record.record import Record
from orchestrator.record.tables import audit_event, audit_private, customer_case, effect, inbox, run, subject_key
from orchestrator.record.trail import GENESIS, link_hash
from orchestrator.record.vault import NONCE_BYTES
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
        host = {
            "people": HostPeople(record),
            "inbox": HostInbox(record),
            "cases": HostCases(record, self.runs, lambda: {self.process.name: self.process}),
        }
        self._systems: dict[str, Any] = systems | host
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
