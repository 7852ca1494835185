"""What goes out by itself is limited: to one address, to robots, and in all; the rest waits for a person."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from email.headerregistry import Address
from typing import Any

import pytest
from sqlalchemy import Connection, select

from connectors.mail.message import compose
from orchestrator.builtin.answers import AnswerLimits, counted_as, held_runs
from orchestrator.builtin.cases import HostCases
from orchestrator.builtin.inbox import DeliveryState, HostInbox
from orchestrator.builtin.people import HostPeople
from orchestrator.builtin.prefect_limit import PrefectLimit
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
from orchestrator.errors import Rejected, RunError, Unavailable
from orchestrator.gateway.accepting import Acceptance
from orchestrator.intake.mailboxes import MailIntake, Source
from orchestrator.kernel.admission import Request
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.kernel import Kernel
from orchestrator.kernel.runs import Opening, Runs, RunState, new_run_id
from orchestrator.kernel.steps import Bound
from orchestrator.prefect_lane.form import FILLED_IN
from orchestrator.record.record import Record
from orchestrator.record.tables import automatic_answer
from orchestrator.record.trail import BY_PREFECTS_SCHEDULE, IN_PREFECT, SYSTEM, Actor, Event
from orchestrator.record.verify import verify
from orchestrator.settings import AnswerSettings, MailboxSettings, PrefectSettings, WebhookSettings
from orchestrator.testing.mail import FakeMailbox, FakeMailer
from tests.support.builtin import CLERK
from tests.support.clock import HandClock
from tests.support.deep import cases
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


class Shop:
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

    def _bind(self, _process: str, capability: str) -> Bound:
        admit = self._admit if capability == "mailer" else None
        return Bound(connection=capability, version="", instance=getattr(self, capability), admit=admit)

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


@pytest.fixture(autouse=True)
def _chains_are_whole(record: Record) -> Iterator[None]:
    yield
    with record.store.read() as tx:
        assert verify(tx).breaches == ()


def test_a_thousand_requests_for_one_victim_are_few_mails(record: Record) -> None:
    shop = Shop(record, answers_per_day=3)
    requests = cases(40, 1000)
    spellings = ["victim@gmail.com", "Victim+{}@gmail.com", "v.i.c.t.i.m@gmail.com", "vic.tim+{}@googlemail.com"]
    for number in range(requests):
        shop.receive(spellings[number % len(spellings)].format(number))
    shop.work()
    assert len(shop.mailer.sent) == 3
    assert (len(shop.held()), len(shop.parked())) == (requests - 3, requests - 3), "none may be lost"


def test_the_limit_is_one_of_an_address_and_a_day(record: Record, clock: HandClock) -> None:
    shop = Shop(record, answers_per_day=2)
    for sender in (ANN, ANN, ANN, "tom@example.com"):
        shop.receive(sender)
    shop.work()
    assert [mail.to for mail in shop.mailer.sent] == [ANN, ANN, "tom@example.com"]
    clock.advance(hours=23)
    shop.receive()
    shop.work()
    assert len(shop.mailer.sent) == 3
    clock.advance(hours=2)
    shop.receive()
    shop.work()
    assert len(shop.mailer.sent) == 4
    assert shop.counted() == 1, "what is older than a day is forgotten"


def test_two_robots_face_to_face_exchange_one_mail_each(record: Record) -> None:
    shop = Shop(record, answer_pause_seconds=300)
    shop.receive("robot@elsewhere.example")
    seen = 0
    for _ in range(20):
        shop.work()
        for mail in shop.mailer.sent[seen:]:  # a robot that answers each mail, and says nowhere that it is one
            shop.receive(mail.to)
        seen = len(shop.mailer.sent)
    assert len(shop.mailer.sent) == 1
    assert len(shop.held()) == 1


def test_a_robot_of_our_own_kind_gets_no_answer_at_all(record: Record) -> None:
    shop = Shop(record)
    for number in range(3):
        mail = OutgoingMail(to="support@shop.example", subject="I lost my download", text="t", in_reply_to="<a@b.de>")
        sender = Address(username="support", domain="elsewhere.example")
        shop.mailbox.deliver(compose(mail, sender=sender, identifier=f"<f-{number}@elsewhere.example>").as_bytes())
    MailIntake(record, shop.runs).take_in(shop._source)
    for found in shop.inbox.listed(limit=10):
        assert shop.inbox.read(found.delivery).automatic == "auto-submitted"


def test_beyond_the_breaker_everything_waits_for_a_person_who_sees_why(record: Record, clock: HandClock) -> None:
    shop = Shop(record, per_hour=3)
    for number in range(5):
        shop.receive(f"customer{number}@example.com")
    shop.work()
    assert len(shop.mailer.sent) == 3
    held = shop.held()
    (run_id, other) = shop.parked()
    why = "3 automatic answers went out in an hour ([answers] per_hour)"
    assert {delivery.note for delivery in held} == {
        f"{why}; let it go out with: orchestrator runs resume {run}" for run in (run_id, other)
    }
    with record.store.read() as tx:
        event = record.trail.chain(tx, run_id)[-1]
    assert (event.kind, event.data["error"]) == ("run.parked", "Held")
    assert event.data["reason"] in {delivery.note for delivery in held}
    clock.advance(minutes=61)
    shop.receive("another@example.com")
    shop.work()
    assert len(shop.mailer.sent) == 4


def test_what_strangers_use_up_holds_nobody_who_is_proven(record: Record) -> None:
    shop = Shop(record, per_hour=3, answers_per_day=2, answer_pause_seconds=300)
    for number in range(60):
        shop.receive(f"customer{number}@example.com")
    for _ in range(3):
        shop.receive()
    shop.receive(proven=True)
    shop.work()
    assert [mail.to for mail in shop.mailer.sent[:3]] == [f"customer{number}@example.com" for number in range(3)]
    assert [mail.to for mail in shop.mailer.sent[3:]] == [ANN]
    assert len(shop.held()) == 60


def test_unproven_strangers_share_a_few_acknowledgements_and_none_is_held(record: Record, clock: HandClock) -> None:
    shop = Shop(record, ACKNOWLEDGE)
    for number in range(60):
        shop.receive(f"stranger{number}@example.com")
    shop.work()
    assert (len(shop.mailer.sent), shop.held(), shop.parked()) == (5, [], [])
    shop.receive("proven@example.com", proven=True)
    shop.work()
    assert shop.mailer.sent[-1].to == "proven@example.com"
    clock.advance(minutes=61)
    shop.receive("stranger60@example.com")
    shop.work()
    assert len(shop.mailer.sent) == 7


def test_what_was_left_out_stays_left_out_and_says_why(record: Record) -> None:
    shop = Shop(record, ACKNOWLEDGE, answers_per_day=1)
    for _ in range(2):
        shop.receive()
    shop.work()
    (left_out,) = [run for run in shop.runs.listed(limit=9) if shop.chain(run.run_id)[-2].kind == "step.refused"]
    why = "its recipient had 1 automatic mails in a day ([mailboxes.support] answers_per_day)"
    result = shop.chain(left_out.run_id)[-1]
    assert (result.kind, result.data["result"], left_out.state) == ("run.finished", why, RunState.DONE)


def test_acknowledgements_and_answers_are_in_nobodys_way(record: Record) -> None:
    shop = Shop(record, ACKNOWLEDGE, answers_per_day=1, answer_pause_seconds=300)
    shop.receive()
    shop.work()
    shop._source = replace(shop._source, process=ECHO)
    shop.receive()
    shop.work()
    assert [mail.acknowledges for mail in shop.mailer.sent] == [True, False]


def test_what_a_person_lets_go_on_goes_out_and_its_mail_still_waits_for_them(record: Record) -> None:
    shop = Shop(record, answers_per_day=1)
    for _ in range(2):
        shop.receive()
    shop.work()
    (run_id,) = shop.parked()
    shop.runs.resume(run_id, CLERK)
    shop.work()
    assert len(shop.mailer.sent) == 2
    assert shop.counted() == 1
    assert [delivery.run_id for delivery in shop.held()] == [run_id], "filing by the process does not take it away"


def test_all_mails_that_were_held_are_found_but_those_that_somebody_dealt_with(record: Record) -> None:
    shop = Shop(record, PASS_ON, answers_per_day=1)
    for _ in range(4):
        shop.receive()
    shop.fill_in()
    shop.fill_in()
    shop.work()
    assert sorted(held_runs(record)) == sorted(shop.parked())
    by_hand = next(delivery for delivery in shop.held() if delivery.source == "support")
    shop.inbox.close(by_hand.delivery, CLERK)
    left = held_runs(record)
    assert len(left) == 3
    for run_id in left:
        shop.runs.resume(run_id, CLERK)
    shop.work()
    assert (len(shop.mailer.sent), held_runs(record), len(shop.parked())) == (2 + 3, [], 1)


def test_a_run_that_asks_a_person_is_not_held(record: Record) -> None:
    shop = Shop(record, ASK_FIRST)
    shop.receive()
    shop.work()
    assert (len(shop.parked()), held_runs(record)) == (1, [])


def test_what_a_person_decided_is_not_limited(record: Record) -> None:
    shop = Shop(record, ASK_FIRST, answers_per_day=1, answer_pause_seconds=300)
    for _ in range(3):
        shop.receive()
    shop.work()
    for question in shop.people.open_questions():
        shop.people.answer(question.question_id, ASK_FIRST_YES, CLERK)
    shop.work()
    assert len(shop.mailer.sent) == 3


def test_a_deadline_is_no_persons_word(record: Record, clock: HandClock) -> None:
    shop = Shop(record, ASK_FOR_AN_HOUR, answers_per_day=1)
    for _ in range(3):
        shop.receive()
    shop.work()
    clock.advance(hours=1)
    shop.people.pass_deadlines()
    shop.work()
    assert (len(shop.mailer.sent), len(shop.held())) == (1, 2)


def test_a_process_that_is_started_by_another_has_the_limits_of_the_mail(record: Record) -> None:
    shop = Shop(record, PASS_ON, answers_per_day=1)
    for _ in range(3):
        shop.receive()
    shop.work()
    assert len(shop.mailer.sent) == 1
    assert len(shop.held()) == 2
    assert {run.process for run in shop.runs.listed(state=RunState.PARKED, limit=10)} == {"serve"}


def test_a_run_that_neither_mail_nor_webhook_started_has_no_limits(record: Record) -> None:
    shop = Shop(record, answers_per_day=1, per_hour=1)
    for _ in range(3):
        opening = Opening(definition=SERVE, request=Asked(email=ANN), run_id=new_run_id(), actor=CLERK)
        with record.store.write() as tx:
            shop.runs.open(tx, opening)
    shop.work()
    assert len(shop.mailer.sent) == 3


def test_a_form_that_anybody_fills_in_buries_nobody(record: Record, clock: HandClock) -> None:
    shop = Shop(record, answers_per_day=3)
    for number in range(8):
        shop.fill_in(f"victim+{number}@example.com")
    shop.fill_in("tom@example.com")
    shop.work()
    assert (len(shop.mailer.sent), len(shop.held())) == (4, 5), "none may be lost"
    why = "its recipient had 3 automatic mails in a day ([webhooks.form] answers_per_day)"
    assert {held.note for held in shop.held()} == {
        f"{why}; let it go out with: orchestrator runs resume {run_id}" for run_id in shop.parked()
    }
    shop.runs.resume(shop.parked()[0], CLERK)
    clock.advance(hours=25)
    shop.fill_in("victim@example.com")
    shop.work()
    assert len(shop.mailer.sent) == 6


def test_what_webhooks_start_has_no_pause_and_trips_no_breaker(record: Record) -> None:
    shop = Shop(record, per_hour=2, answer_pause_seconds=300)
    for number in range(6):
        shop.fill_in(f"customer{number % 3}@example.com")
    shop.work()
    shop.receive("customer1@example.com")
    shop.receive("customer2@example.com")
    shop.work()
    assert (len(shop.mailer.sent), shop.held()) == (8, [])


@pytest.mark.parametrize("actor", [IN_PREFECT, BY_PREFECTS_SCHEDULE])
def test_what_prefect_starts_has_a_limit_for_each_address_and_a_person_must_let_go_what_is_beyond(
    record: Record, actor: Actor
) -> None:
    shop = Shop(record, answers_per_day=3)
    for number in range(6):
        shop.press_run(SERVE, Asked(email=f"ann+{number}@example.com"), actor)
    shop.press_run(SERVE, Asked(email="someone.else@example.com"), actor)
    shop.work()
    assert len(shop.mailer.sent) == 4
    held = shop.parked()
    assert (len(held), sorted(held_runs(record))) == (3, sorted(held))
    with record.store.read() as tx:
        reason = shop.runs.get(tx, held[0]).reason
    assert reason == (
        "its recipient had 3 mails in a day by runs that were started in Prefect ([prefect] answers_per_day); "
        f"let it go out with: orchestrator runs resume {held[0]}"
    )
    for nobodys_word in (IN_PREFECT, SYSTEM):
        shop.resume(held[0], nobodys_word)
    assert len(shop.mailer.sent) == 4
    shop.resume(held[0], CLERK)
    assert (len(shop.mailer.sent), shop.parked()) == (5, held[1:])


def test_an_answer_given_in_prefect_lets_no_mail_go_out_beyond_the_limit(record: Record) -> None:
    shop = Shop(record, answers_per_day=1)
    asking = [shop.press_run(ASK_THEN_SERVE, Asked(email=ANN)) for _ in range(3)]
    shop.work()
    actors = [FILLED_IN, FILLED_IN, CLERK]
    for run_id, actor in zip(asking, actors, strict=True):
        waiting = shop.people.waiting_of(run_id)
        assert waiting is not None
        shop.people.answer(waiting.question_id, ASK_FIRST_YES, actor)
    shop.work()
    assert len(shop.mailer.sent) == 2
    assert len(shop.parked()) == 1
    assert shop.parked()[0] in asking[:2]


def test_what_a_run_of_prefect_starts_is_limited_too_and_what_a_person_starts_here_is_not(record: Record) -> None:
    shop = Shop(record, answers_per_day=2)
    for _ in range(4):
        shop.press_run(START_ANOTHER, Asked(email=ANN))
        shop.press_run(SERVE, Asked(email=ANN), CLERK)
        shop.fill_in()
    shop.work()
    assert len(shop.mailer.sent) == 2 + 4 + 2
    assert len(shop.parked()) == 2 + 2


def test_the_day_of_prefects_limit_ends(record: Record, clock: HandClock) -> None:
    shop = Shop(record, answers_per_day=1)
    for _ in range(3):
        shop.press_run(SERVE, Asked(email=ANN))
        shop.work()
        clock.advance(hours=25)
    assert (len(shop.mailer.sent), shop.parked()) == (3, [])


def test_a_mail_that_is_tried_again_counts_once(record: Record, clock: HandClock) -> None:
    shop = Shop(record, answers_per_day=1)
    shop.mailer.fail_next(Unavailable("down", no_effect=True))
    shop.receive()
    shop.work()
    assert not shop.mailer.sent
    clock.advance(minutes=5)
    shop.work()
    assert (len(shop.mailer.sent), shop.counted(), shop.held()) == (1, 1, [])


def test_workers_that_answer_at_once_keep_the_limits_together(record: Record) -> None:
    shop = Shop(record, answers_per_day=3)
    for _ in range(12):
        shop.receive()
        shop.fill_in()
    MailIntake(record, shop.runs).take_in(shop._source)
    with ThreadPoolExecutor(6) as workers:
        list(workers.map(shop.execute, shop.runs.due(limit=100)))
    assert len(shop.mailer.sent) == 3 + 3
    assert len(shop.held()) == 9 + 9


def test_no_address_lies_open_where_answers_are_counted(record: Record) -> None:
    shop = Shop(record)
    shop.receive()
    shop.work()
    with record.store.read() as tx:
        assert "example.com" not in str(tx.execute(select(automatic_answer)).all())


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("Ann@Example.com ", "ann@example.com"),
        ("ann+shop@example.com", "ann@example.com"),
        ("a.n.n@example.com", "a.n.n@example.com"),
        ("a.n.n+x@googlemail.com", "ann@gmail.com"),
        ("+x@example.com", "+x@example.com"),
        ("nobody", "@nobody"),
    ],
)
def test_spellings_of_one_mailbox_count_as_one(address: str, expected: str) -> None:
    assert counted_as(address) == expected
