"""A shop whose mails and form start processes that answer, within the limits of what goes out."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, select

from orchestrator.builtin.cases import HostCases
from orchestrator.builtin.inbox import DeliveryState, HostInbox
from orchestrator.builtin.people import HostPeople
from orchestrator.capabilities import (
    Cases,
    Decision,
    Inbox,
    Mailer,
    Option,
    OutgoingMail,
    People,
    Private,
    Question,
    Value,
    Work,
)
from orchestrator.errors import Rejected, RunError
from orchestrator.gateway.accepting import Acceptance
from orchestrator.intake.mailboxes import MailIntake, Source
from orchestrator.kernel.admission import Request
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.kernel import Kernel
from orchestrator.kernel.runs import Opening, Runs, RunState, new_run_id
from orchestrator.kernel.steps import Bound
from orchestrator.outbound_limits.answers import AnswerLimits
from orchestrator.outbound_limits.prefect import PrefectLimit
from orchestrator.plugins.standard import STANDARD
from orchestrator.record.record import Record
from orchestrator.record.tables import automatic_answer
from orchestrator.record.trail import IN_PREFECT, Actor, Event
from orchestrator.settings import AnswerSettings, MailboxSettings, PrefectSettings, WebhookSettings
from orchestrator.testing.mail import FakeMailbox, FakeMailer
from tests.support.webhooks import arrival, hook, order

ANN = "ann@example.com"
ASK = Question(title="Shall we?", known="", options=(Option(key="yes", label="Yes"),))
ASK_FIRST_YES = Decision(option="yes")


class Incoming(Value):
    delivery: str


class Asked(Value):
    email: Private[str]


def echo(request: Incoming, *, inbox: Inbox, mailer: Mailer) -> None:
    """Answer every mail, as careless as can be."""
    mail = inbox.read(request.delivery)
    mailer.send(OutgoingMail(to=mail.sender, subject=f"Re: {mail.subject}", text="We got it."))
    inbox.settle(request.delivery, note="answered")


def pass_on(request: Incoming, *, inbox: Inbox, cases: Cases) -> None:
    """Let another process answer."""
    mail = inbox.read(request.delivery)
    ticket = cases.open_or_join(mail.sender, delivery=request.delivery)
    cases.start(Work(process="serve", request=Asked(email=mail.sender).model_dump_json()), case_id=ticket.case_id)
    inbox.settle(request.delivery, note="passed on")


def serve(request: Asked, *, mailer: Mailer) -> None:
    """Answer."""
    mailer.send(OutgoingMail(to=request.email, subject="s", text="t"))


def acknowledge(request: Incoming, *, inbox: Inbox, mailer: Mailer) -> str:
    """Say that the mail came in, if there is room."""
    mail = inbox.read(request.delivery)
    try:
        mailer.send(OutgoingMail(to=mail.sender, subject="s", text="t", acknowledges=True))
    except Rejected as exc:
        return str(exc)
    return ""


def ask_first(request: Incoming, *, inbox: Inbox, mailer: Mailer, people: People) -> None:
    """Answer once a person says so."""
    people.decide(ASK)
    mailer.send(OutgoingMail(to=inbox.read(request.delivery).sender, subject="s", text="t"))


def ask_for_an_hour(request: Incoming, *, inbox: Inbox, mailer: Mailer, people: People) -> None:
    """Answer once a person says so, or nobody says anything."""
    people.decide(ASK.model_copy(update={"due_in": timedelta(hours=1), "otherwise": "yes"}))
    mailer.send(OutgoingMail(to=inbox.read(request.delivery).sender, subject="s", text="t"))


def ask_then_serve(request: Asked, *, mailer: Mailer, people: People) -> None:
    """Answer once a person says so."""
    people.decide(ASK)
    mailer.send(OutgoingMail(to=request.email, subject="s", text="t"))


def start_another(request: Asked, *, cases: Cases) -> None:
    """Let another run answer."""
    cases.start(Work(process="serve", request=request.model_dump_json()))


ASK_THEN_SERVE = ProcessDefinition("ask-then-serve", ask_then_serve)
START_ANOTHER = ProcessDefinition("start-another", start_another)
ECHO, PASS_ON = ProcessDefinition("echo", echo), ProcessDefinition("pass-on", pass_on)
SERVE, ASK_FIRST = ProcessDefinition("serve", serve), ProcessDefinition("ask-first", ask_first)
ASK_FOR_AN_HOUR, ACKNOWLEDGE = (
    ProcessDefinition("ask-for-an-hour", ask_for_an_hour),
    ProcessDefinition("acknowledge", acknowledge),
)
KNOWN = (ECHO, PASS_ON, SERVE, ASK_FIRST, ASK_FOR_AN_HOUR, ACKNOWLEDGE, ASK_THEN_SERVE, START_ANOTHER)
PROCESSES = {each.name: each for each in KNOWN}
OURS = "mx.shop.example"


class AnsweringShop:
    """A mailbox whose mails start a process that answers them, and the webhook of a form."""

    def __init__(
        self, record: Record, process: ProcessDefinition = ECHO, *, per_hour: int = 100, **limits: float
    ) -> None:
        self.record = record
        self.runs = Runs(record)
        self.mailer = FakeMailer()
        self.mailbox = FakeMailbox()
        self.inbox = HostInbox(record)
        self.people = HostPeople(record)
        self.cases = HostCases(record, self.runs, lambda: PROCESSES)
        given: dict[str, Any] = {"answers_per_day": 1000, "answer_pause_seconds": 0} | limits
        form = WebhookSettings(process="serve", verify="stripe", answers_per_day=given["answers_per_day"])
        sources = {
            "support": MailboxSettings(connection="m", process=process.name, **given),
            "webhook:form": form,
        }
        self.limits = AnswerLimits(record.vault, record.clock, sources, AnswerSettings(per_hour=per_hour))
        self.prefect_limit = PrefectLimit(
            record.vault, record.clock, PrefectSettings(answers_per_day=given["answers_per_day"])
        )
        self.kernel = Kernel(record, self.runs, self._bind, owner="worker")
        self._source = Source(
            name="support", mailbox=self.mailbox, process=process, from_beginning=True, authserv_id=OURS
        )
        self._mails = 0

    def receive(self, sender: str = ANN, *, proven: bool = False) -> None:
        self._mails += 1
        result = f"dmarc={'pass' if proven else 'fail'} header.from={sender.partition('@')[2]}"
        head = f"Authentication-Results: {OURS}; {result}\r\nFrom: {sender}\r\nSubject: mail {self._mails}\r\n"
        self.mailbox.deliver(f"{head}\r\nhello\r\n".encode())

    def fill_in(self, address: str = ANN) -> None:
        """Let somebody fill in the form, with an address that nobody has proven."""
        self._mails += 1
        body = order(self._mails).replace(f"ann{self._mails}@example.com".encode(), address.encode())
        sent = arrival(body, f"evt_{self._mails}", hook(SERVE, name="form", sources={"email": "/customer/email"}))
        Acceptance(self.record, self.runs).accept([sent])

    def work(self) -> None:
        """Take in what came, and execute all that is due."""
        MailIntake(self.record, self.runs).take_in(self._source)
        while due := self.runs.due(limit=1000):
            for run_id in due:
                self.execute(run_id)

    def execute(self, run_id: str) -> None:
        with self.record.store.read() as tx:
            process = self.runs.get(tx, run_id).process
        with suppress(RunError):
            self.kernel.execute(PROCESSES[process], run_id)

    def held(self) -> list[Any]:
        return self.inbox.listed(state=DeliveryState.FOR_PERSON, limit=10_000)

    def parked(self) -> list[str]:
        return [run.run_id for run in self.runs.listed(state=RunState.PARKED, limit=10_000)]

    def chain(self, run_id: str) -> list[Event]:
        with self.record.store.read() as tx:
            return self.record.trail.chain(tx, run_id)

    def counted(self) -> int:
        with self.record.store.read() as tx:
            return len(tx.execute(select(automatic_answer)).all())

    def _bind(self, _process: str, protocol: type) -> Bound:
        capability = STANDARD.of(protocol)
        name = capability.name
        return Bound(
            capability=capability, connection=name, version="", instance=getattr(self, name), admit=self._admit
        )

    def _admit(self, tx: Connection, request: Request) -> None:
        self.limits.admit(tx, request)
        self.prefect_limit.admit(tx, request)

    def press_run(self, process: ProcessDefinition, request: Value, actor: Actor = IN_PREFECT) -> str:
        """Start a run as the form of the Prefect UI does."""
        opening = Opening(definition=process, request=request, run_id=new_run_id(), actor=actor)
        with self.record.store.write() as tx:
            self.runs.open(tx, opening)
        return opening.run_id

    def resume(self, run_id: str, actor: Actor) -> None:
        self.runs.resume(run_id, actor)
        self.execute(run_id)
