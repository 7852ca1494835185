"""The inbox, cases and questions of the host over a record, with a kernel that executes runs on it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from orchestrator.builtin.cases import HostCases
from orchestrator.builtin.inbox import HostInbox
from orchestrator.builtin.people import HostPeople
from orchestrator.capabilities import Inbox, Option, People, Private, Question, Value, Work
from orchestrator.errors import RunParked
from orchestrator.intake.mailboxes import MailIntake, Source
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.kernel import Kernel
from orchestrator.kernel.runs import Opening, Run, Runs, RunState, new_run_id
from orchestrator.kernel.steps import Bound
from orchestrator.plugins.standard import STANDARD
from orchestrator.record.clock import stamp
from orchestrator.record.record import Record
from orchestrator.record.tables import customer_case, effect
from orchestrator.record.tables import run as run_table
from orchestrator.record.trail import Actor, Event
from orchestrator.record.verify import verify
from orchestrator.testing.contracts.builtin import ANN, NOON
from orchestrator.testing.mail import FakeMailbox

CLERK = Actor(name="operator:ann", auth="os user")
YES = Option(key="yes", label="Do it")
OTHERWISE = Option(key="otherwise", label="Do something else", needs_text="what to do")
QUESTION = Question(title="Shall it be done?", known="Mary (mary@example.com) asks.", options=(YES, OTHERWISE))


class Served(Value):
    email: Private[str]


class Incoming(Value):
    delivery: str


def serve(request: Served, *, people: People) -> str:
    """Ask, and say what was decided."""
    decided = people.decide(QUESTION)
    return f"{decided.option}:{decided.text}"


def triage(request: Incoming, *, inbox: Inbox) -> None:
    """Leave each mail to a person."""
    inbox.keep_for_person(request.delivery, reason="a test")


SERVE = ProcessDefinition("serve", serve, case_key=lambda request: request.email)
TRIAGE = ProcessDefinition("triage", triage)
PARENT = ProcessDefinition("parent", serve, case_key=lambda _: "parent@example.com")


class Host:
    """What the host answers, with a kernel that executes runs on it."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.runs = Runs(record)
        self.inbox = HostInbox(record)
        self.people = HostPeople(record)
        self.cases = HostCases(record, self.runs, lambda: {"serve": SERVE})
        self.mailbox = FakeMailbox()

    def open(self, definition: ProcessDefinition, request: Value) -> str:
        opening = Opening(definition=definition, request=request, run_id=new_run_id(), actor=CLERK)
        with self.record.store.write() as tx:
            self.runs.open(tx, opening)
        return opening.run_id

    def execute(self, definition: ProcessDefinition, run_id: str) -> Any:
        def bind(_process: str, protocol: type) -> Bound:
            capability = STANDARD.of(protocol)
            return Bound(capability=capability, connection="host", version="", instance=getattr(self, capability.name))

        return Kernel(self.record, self.runs, bind, owner="worker").execute(definition, run_id)

    def run(self, run_id: str) -> Run:
        with self.record.store.read() as tx:
            return self.runs.get(tx, run_id)

    def chain(self, run_id: str) -> list[Event]:
        with self.record.store.read() as tx:
            assert verify(tx).breaches == ()
            return self.record.trail.chain(tx, run_id)

    def asked(self) -> tuple[str, str]:
        """Let a run ask; return its id and that of its question."""
        run_id = self.open(SERVE, Served(email=ANN))
        with pytest.raises(RunParked):
            self.execute(SERVE, run_id)
        (waiting,) = self.people.open_questions()
        return run_id, waiting.question_id


class RealHost(Host):
    """The real host as the contract sees it."""

    work = Work(process="serve", request='{"email": "ann@example.com"}')

    def deliver(self, sender: str, at: datetime, proof: str = "") -> str:
        domain = sender.partition("@")[2]
        result = f"{proof} header.from={domain} header.d={domain}" if proof else "none"
        head = f"Authentication-Results: mx.shop.example; {result}\r\nFrom: {sender}\r\nSubject: lost\r\n"
        raw = f"{head}\r\n{at}\r\n".encode()
        mailbox = FakeMailbox(since=at)
        mailbox.deliver(raw)
        source = Source(
            name=f"{sender} {at}",
            mailbox=mailbox,
            process=TRIAGE,
            from_beginning=True,
            authserv_id="mx.shop.example",
        )
        MailIntake(self.record, self.runs).take_in(source)
        return next(found.delivery for found in self.inbox.listed(limit=100) if found.source == source.name)

    def effect(self, number: int) -> str:
        key, parent = f"f-{number}", self._parent
        with self.record.store.write() as tx:
            if tx.execute(select(effect).where(effect.c.effect_id == key)).first() is None:
                tx.execute(insert(effect).values(_planned(key, parent)))
        return key

    def answer(self, case_id: str, at: datetime) -> None:
        with self.record.store.write() as tx:
            tx.execute(update(customer_case).where(customer_case.c.case_id == case_id).values(answered_at=stamp(at)))

    def stop(self, case_id: str) -> None:
        self._set_runs(RunState.PARKED, run_table.c.case_id == case_id)

    def fail_opener(self) -> None:
        """Let the run that opened the case fail before it started another."""
        self._set_runs(RunState.FAILED, run_table.c.run_id == self._parent)

    def _set_runs(self, state: RunState, which: Any) -> None:
        with self.record.store.write() as tx:
            tx.execute(update(run_table).where(which).values(state=state))

    def filed(self, delivery: str) -> tuple[str, str]:
        found = next(each for each in self.inbox.listed(limit=100) if each.delivery == delivery)
        return found.state.value, found.note

    def started(self) -> list[str]:
        return [run.run_id for run in self.runs.listed(limit=100) if run.parent_run_id is not None]

    def due_at(self, run_id: str) -> datetime:
        return self.run(run_id).due_at

    def case_of(self, run_id: str) -> str | None:
        return self.run(run_id).case_id

    @property
    def own_case(self) -> str:
        return str(self.case_of(self._parent))

    @property
    def _parent(self) -> str:
        known = [run.run_id for run in self.runs.listed(limit=100) if run.process == "parent"]
        return known[0] if known else self.open(PARENT, Served(email=ANN))


def _planned(key: str, run_id: str) -> dict[str, object]:
    return {
        "effect_id": key,
        "run_id": run_id,
        "step": 1,
        "capability": "cases",
        "operation": "start",
        "connection": "host",
        "doubt": "natural",
        "state": "attempting",
        "attempt": 1,
        "updated_at": stamp(NOON),
    }
