"""A kernel on a record, sample processes for it, and a system that does as it is told."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

from sqlalchemy import Connection, select
from sqlalchemy.exc import OperationalError

from orchestrator.capabilities import (
    Asset,
    Contacts,
    FileLinks,
    Link,
    Mailer,
    OrderRecords,
    OutgoingMail,
    Private,
    Purchase,
    Receipt,
    Value,
)
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.kernel import Kernel, LedgerFactory
from orchestrator.kernel.runs import Opening, Run, Runs, new_run_id
from orchestrator.kernel.steps import Bound
from orchestrator.ledger.ledger import Ledger
from orchestrator.plugins import DoubtClass, Settlement
from orchestrator.plugins.standard import STANDARD
from orchestrator.record.record import Record
from orchestrator.record.store import Store
from orchestrator.record.tables import effect
from orchestrator.record.trail import Actor, Event

ANN = Actor(name="operator:ann", auth="test")
EMAIL = "anna@example.com"
TIMEOUT = timedelta(seconds=60)
SETTLE = timedelta(seconds=90)
KEY_LIFETIME = timedelta(hours=24)


class Errand(Value):
    """What the sample processes are asked for."""

    email: Private[str] = EMAIL


class Done(Value):
    """What the sample processes answer."""

    references: tuple[Private[str], ...] = ()


def send_link(errand: Errand, *, orders: OrderRecords, files: FileLinks, mailer: Mailer, contacts: Contacts) -> Done:
    """Look up, make a link, send it, and note it: a query, a pure effect and two effects."""
    (purchase,) = orders.purchases_of(errand.email)
    link = files.link_to(purchase.asset, valid_for=timedelta(days=3))
    sent = mailer.send(OutgoingMail(to=purchase.email, subject="Your link", text=link.url))
    noted = contacts.note(errand.email, "a link was sent")
    return Done(references=(sent.reference, noted.reference))


def send_one(errand: Errand, *, mailer: Mailer) -> Done:
    """Send one mail."""
    sent = mailer.send(OutgoingMail(to=errand.email, subject="One", text="One"))
    return Done(references=(sent.reference,))


def look_up(errand: Errand, *, orders: OrderRecords) -> Done:
    """Look up what was bought."""
    return Done(references=tuple(purchase.order for purchase in orders.purchases_of(errand.email)))


def process(body: Callable[..., Any], *, cased: bool = False) -> ProcessDefinition:
    """Return a process of a function, known by the customer's address if it has a case."""
    return ProcessDefinition("sample", body, case_key=(lambda errand: errand.email) if cased else None)


Failure = BaseException | Callable[[], object]
"""What a call does instead of answering: raises, or runs something and goes on with it as its answer."""


class FakeSystem:
    """Answers every capability of the sample processes; fails as it was told to, before or after it acted.

    Args:
        doubt: How doubts about its effects are settled.
    """

    def __init__(self, doubt: DoubtClass = DoubtClass.PROBE) -> None:
        self.doubt = doubt
        self.calls: list[str] = []
        self.probes = 0
        self.applied: Counter[str] = Counter()
        """How often each effect was applied, by effect id."""
        self.before: deque[Failure | None] = deque()
        self.after: deque[Failure | None] = deque()
        self.probe_failures: deque[Failure | None] = deque()

    @property
    def settlements(self) -> dict[str, Settlement]:
        """Declare the class; a link is pure."""
        declared = Settlement(
            doubt=self.doubt, timeout=TIMEOUT, visibility_delay=SETTLE, probe=self._probe, key_lifetime=KEY_LIFETIME
        )
        return {
            **dict.fromkeys(("send", "note", "decide"), declared),
            "link_to": replace(declared, doubt=DoubtClass.PURE),
        }

    def purchases_of(self, email: str) -> tuple[Purchase, ...]:
        """Return one purchase."""
        with self._called("purchases_of") as instead:
            purchase = Purchase(
                order="17", product="Book", asset=Asset(key="book.pdf"), email=email, bought_on=date(2026, 1, 1)
            )
            return cast("tuple[Purchase, ...]", instead or (purchase,))

    def link_to(self, asset: Asset, *, valid_for: timedelta) -> Link:
        """Return a link."""
        with self._called("link_to"):
            return Link(asset=asset, url="https://files.test/secret", expires_at=datetime(2026, 4, 1, tzinfo=UTC))

    def send(self, mail: OutgoingMail, *, effect_id: str | None = None) -> Receipt:
        """Send a mail."""
        return self._act("send", effect_id)

    def note(self, email: str, text: str, *, effect_id: str | None = None) -> Receipt:
        """Write a note."""
        return self._act("note", effect_id)

    def _act(self, operation: str, effect_id: str | None) -> Receipt:
        with self._called(operation) as instead:
            repeated = self.doubt in (DoubtClass.NATURAL, DoubtClass.NATIVE_KEY) and self.applied[str(effect_id)]
            if not repeated:
                self.applied[str(effect_id)] += 1
            return cast("Receipt", instead or Receipt(reference=f"<{effect_id}@test>"))

    @contextmanager
    def _called(self, operation: str) -> Iterator[object]:
        self.calls.append(operation)
        instead = _happen(self.before)
        yield instead
        _happen(self.after)

    def _probe(self, effect_id: str, **arguments: object) -> Receipt | None:
        self.probes += 1
        instead = _happen(self.probe_failures)
        if instead is not None:
            return cast("Receipt", instead)
        return Receipt(reference=f"<{effect_id}@test>") if self.applied[effect_id] else None


def _happen(script: deque[Failure | None]) -> object:
    failure = script.popleft() if script else None
    if isinstance(failure, BaseException):
        raise failure
    return failure() if failure is not None else None


class WatchedStore:
    """A store that tells before each transaction, right before its commit, and after it.

    Args:
        inner: The true store.
        boundary: Told ``write``, ``commit`` and ``committed``; what it raises happens there.
    """

    def __init__(self, inner: Store, boundary: Callable[[str], None]) -> None:
        self._inner = inner
        self._boundary = boundary
        self.dialect = inner.dialect
        self.read = inner.read
        self.close = inner.close

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Connection]:
        """Open a transaction."""
        self._boundary("write")
        with self._inner.write(durable=durable) as tx:
            yield tx
            self._boundary("commit")
        self._boundary("committed")

    def commit(self, change: Callable[[Connection], object]) -> object:
        """Make a change in a transaction of its own."""
        with self.write() as tx:
            return change(tx)


def watched(record: Record, boundary: Callable[[str], None]) -> Record:
    """Return the same record with its commits watched."""
    return replace(record, store=cast("Store", WatchedStore(record.store, boundary)))


class Killed(BaseException):
    """The process dies here: nothing catches it."""


def dying(record: Record, *, at_commit: int) -> Record:
    """Return the record as a process sees it that dies before its n-th transaction."""
    return watched(record, _at(Killed(), [at_commit]))


def fails(*, only_commit: int = 0, from_commit: int = 0) -> Callable[[str], None]:
    """Return what lets one transaction fail as a lost connection would, or all from one on."""
    numbers = [only_commit] if only_commit else range(from_commit, 1000)
    return _at(OperationalError("COMMIT", {}, Exception("the connection was lost")), numbers)


def _at(error: BaseException, numbers: Container[int]) -> Callable[[str], None]:
    seen = 0

    def boundary(kind: str) -> None:
        nonlocal seen
        seen += kind == "write"
        if kind == "commit" and seen in numbers:
            raise error

    return boundary


class Bench:
    """A kernel with systems.

    Args:
        record: The record.
        system: Answers every need.
        owner: The worker's name.
        ledger: Makes ledgers.
        runs: Leases runs, if not as usual.
        is_proven: Tells whether the system's probes have been proven.
    """

    def __init__(
        self,
        record: Record,
        system: object,
        *,
        owner: str = "worker-1",
        ledger: LedgerFactory = Ledger,
        runs: Runs | None = None,
        is_proven: Callable[[], bool] = lambda: True,
    ) -> None:
        self.is_proven = is_proven
        self.record = record
        self.system = system
        self.connection = "fake"
        self.runs = runs or Runs(record)
        self.kernel = Kernel(record, self.runs, self._bind, owner=owner, ledger=ledger)

    def _bind(self, process: str, protocol: type) -> Bound:
        return Bound(
            capability=STANDARD.of(protocol),
            connection=self.connection,
            version="1",
            instance=self.system,
            is_proven=lambda _operation: self.is_proven(),
        )

    def open(self, definition: ProcessDefinition, errand: Errand | None = None, **opening: Any) -> str:
        """Open a run and return its id."""
        run_id = str(opening.pop("run_id", new_run_id()))
        wanted = Opening(definition=definition, request=errand or Errand(), run_id=run_id, actor=ANN, **opening)
        with self.record.store.write() as tx:
            self.runs.open(tx, wanted)
        return run_id

    def run(self, run_id: str) -> Run:
        """Return a run as it stands."""
        with self.record.store.read() as tx:
            return self.runs.get(tx, run_id)

    def events(self, run_id: str) -> list[Event]:
        """Return the events of a run."""
        with self.record.store.read() as tx:
            return self.record.trail.chain(tx, run_id)

    def kinds(self, run_id: str) -> list[str]:
        """Return the kinds of a run's events."""
        return [event.kind for event in self.events(run_id)]

    def effects(self, run_id: str) -> list[Mapping[str, Any]]:
        """Return the rows of a run's effects, in order."""
        mine = select(effect).where(effect.c.run_id == run_id).order_by(effect.c.step)
        with self.record.store.read() as tx:
            return [dict(row._mapping) for row in tx.execute(mine)]
