from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import select

from orchestrator.builtin.inbox import DeliveryState, HostInbox
from orchestrator.capabilities import Decision, Work
from orchestrator.errors import AwaitingDecision, NotRecorded, RecordError, Rejected, RunParked
from orchestrator.intake.mailboxes import MailIntake, Source
from orchestrator.kernel.cases import QUIET
from orchestrator.kernel.runs import RunState
from orchestrator.record.clock import stamp
from orchestrator.record.record import Record
from orchestrator.record.tables import customer_case, question
from orchestrator.record.trail import Actor
from orchestrator.testing.contracts.desk import ANN, NOON
from tests.support.clock import HandClock
from tests.support.desk import CLERK, QUESTION, SERVE, TRIAGE, Office, RealDesk, Served


@pytest.fixture
def office(record: Record) -> Office:
    return Office(record)


def test_a_question_parks_its_run_and_lies_on_the_desk(office: Office, clock: HandClock) -> None:
    run_id, question_id = office.asked()
    assert office.run(run_id).state is RunState.PARKED
    (waiting,) = office.people.open_questions()
    assert (waiting.run_id, waiting.asked_at, waiting.question) == (run_id, clock(), QUESTION)
    assert office.run(run_id).reason == (
        f"a person must answer: Shall it be done?; see: orchestrator decisions show {question_id}"
    )


def test_asking_again_keeps_one_question(office: Office) -> None:
    run_id, question_id = office.asked()
    for _ in range(2):
        office.runs.resume(run_id, CLERK)
        with pytest.raises(RunParked):
            office.execute(SERVE, run_id)
    with pytest.raises(AwaitingDecision):
        office.people.decide(QUESTION, effect_id=question_id)
    assert [waiting.question_id for waiting in office.people.open_questions()] == [question_id]


def test_an_answer_lets_the_run_go_on_with_it(office: Office, clock: HandClock) -> None:
    run_id, question_id = office.asked()
    clock.advance(hours=2)
    office.people.answer(question_id, Decision(option="otherwise", text="call her"), CLERK)
    assert (office.run(run_id).state, office.run(run_id).due_at) == (RunState.READY, clock())
    assert office.people.open_questions() == []
    assert office.execute(SERVE, run_id) == "otherwise:call her"
    assert office.run(run_id).state is RunState.DONE


def test_who_answered_and_how_long_it_waited_stands_in_the_trail_and_what_was_written_does_not(
    office: Office, clock: HandClock
) -> None:
    run_id, question_id = office.asked()
    clock.advance(minutes=90, milliseconds=700)
    answer = Decision(option="otherwise", text="call mary@example.com")
    office.people.answer(question_id, answer, CLERK, screen="sha256:0f")
    (made,) = [event for event in office.chain(run_id) if event.kind == "decision.made"]
    assert made.actor == CLERK
    assert made.context.effect_id == question_id
    assert made.data["answer"]["option"] == "otherwise"
    assert (made.data["waited_seconds"], made.data["screen"]) == (5400, "sha256:0f")
    assert "mary" not in str([event.data for event in office.chain(run_id)])


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (Decision(option="maybe"), "'maybe' is no option; choose one of: yes, otherwise"),
        (Decision(option=""), "'' is no option; choose one of: yes, otherwise"),
        (Decision(option="otherwise"), "option otherwise needs a text: what to do"),
        (Decision(option="otherwise", text=" \n"), "option otherwise needs a text: what to do"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_and_changes_nothing(
    office: Office, decision: Decision, said: str
) -> None:
    run_id, question_id = office.asked()
    before = office.chain(run_id)
    with pytest.raises(RecordError) as caught:
        office.people.answer(question_id, decision, CLERK)
    assert str(caught.value) == said
    assert (office.chain(run_id), office.run(run_id).state) == (before, RunState.PARKED)
    assert len(office.people.open_questions()) == 1


def test_a_question_is_answered_once(office: Office) -> None:
    _, question_id = office.asked()
    office.people.answer(question_id, Decision(option="yes"), CLERK)
    with pytest.raises(NotRecorded, match="it was answered at 2026-03-01 09:00:00 UTC, and the first answer counts"):
        office.people.answer(question_id, Decision(option="otherwise", text="no"), CLERK)
    with pytest.raises(NotRecorded, match="no open question f-0; list them with: orchestrator decisions"):
        office.people.answer("f-0", Decision(option="yes"), CLERK)


def test_an_answer_outlives_its_program(office: Office, reopen: Callable[[], Record]) -> None:
    run_id, question_id = office.asked()
    office.people.answer(question_id, Decision(option="yes"), CLERK)
    assert Office(reopen()).execute(SERVE, run_id) == "yes:"


def test_an_answer_that_comes_before_the_run_is_parked_is_asked_for_again(office: Office, clock: HandClock) -> None:
    """The question lies on the desk some moments before its run is given back; woken then, it would not hear."""
    run_id, question_id = office.asked()
    office.runs.resume(run_id, CLERK)
    assert office.runs.acquire(run_id, "another worker", process=SERVE.name) is not None
    with pytest.raises(RecordError, match="try again in a moment"):
        office.people.answer(question_id, Decision(option="yes"), CLERK)
    clock.advance(minutes=10)
    with pytest.raises(RunParked):
        office.execute(SERVE, run_id)
    office.people.answer(question_id, Decision(option="yes"), CLERK)
    assert office.execute(SERVE, run_id) == "yes:"


def test_open_questions_come_oldest_first(office: Office, clock: HandClock) -> None:
    asked = []
    for minute in range(3):
        clock.advance(minutes=minute)
        run_id = office.open(SERVE, Served(email=f"{minute}@example.com"))
        with pytest.raises(RunParked):
            office.execute(SERVE, run_id)
        asked.append(run_id)
    assert [waiting.run_id for waiting in office.people.open_questions()] == asked
    assert office.people.check() == "3 open questions"


def test_no_word_of_a_question_lies_open_in_its_row(office: Office) -> None:
    office.asked()
    with office.record.store.read() as tx:
        (row,) = tx.execute(select(question)).all()
    assert "mary" not in str(row)


@pytest.fixture
def kept(office: Office) -> str:
    """A mail on a person's desk."""
    office.mailbox.deliver(b"From: ann@example.com\r\nSubject: Hello\r\n\r\nHow are you?\r\n")
    source = Source(name="support", mailbox=office.mailbox, process=TRIAGE, from_beginning=True)
    MailIntake(office.record, office.runs).take_in(source)
    (run_id,) = office.runs.due(limit=10)
    office.execute(TRIAGE, run_id)
    (found,) = office.inbox.listed(limit=10)
    return found.delivery


def test_a_mail_for_a_person_is_listed_with_its_reason_until_it_is_closed(office: Office, kept: str) -> None:
    (found,) = office.inbox.listed(state=DeliveryState.FOR_PERSON, limit=10)
    assert (found.delivery, found.note) == (kept, "a test")
    assert office.inbox.check() == "1 mails wait for a person"
    office.inbox.close(kept, CLERK)
    assert office.inbox.listed(state=DeliveryState.FOR_PERSON, limit=10) == []
    assert office.inbox.check() == "0 mails wait for a person"


def test_who_closed_a_mail_stands_in_the_trail(office: Office, kept: str) -> None:
    office.inbox.close(kept, CLERK)
    (found,) = office.inbox.listed(limit=10)
    closed = office.chain(str(found.run_id))[-1]
    assert (closed.kind, closed.actor, closed.data) == ("delivery.closed", CLERK, {"delivery": kept})


def test_only_a_mail_that_waits_for_a_person_can_be_closed(office: Office, kept: str) -> None:
    office.inbox.close(kept, CLERK)
    for delivery in (kept, "d-0"):
        with pytest.raises(NotRecorded, match="does not wait for a person"):
            office.inbox.close(delivery, CLERK)
    (found,) = office.inbox.listed(limit=10)
    assert [event.kind for event in office.chain(str(found.run_id))].count("delivery.closed") == 1


def test_mail_from_ourselves_is_known(office: Office, kept: str) -> None:
    assert office.inbox.read(kept).automatic == ""
    assert HostInbox(office.record, frozenset({"ann@example.com"})).read(kept).automatic == "our own address"


def test_a_listed_mail_shows_nothing_personal(office: Office, kept: str) -> None:
    assert "ann@example.com" not in str(office.inbox.listed(limit=10))


def test_a_case_whose_run_answered_nothing_is_closed_and_not_answered(office: Office, clock: HandClock) -> None:
    run_id, question_id = office.asked()
    office.people.answer(question_id, Decision(option="yes"), CLERK)
    office.execute(SERVE, run_id)
    with office.record.store.read() as tx:
        (row,) = tx.execute(select(customer_case)).all()
    assert (row.answered_at, row.closed_at) == (None, stamp(clock()))
    assert "ann" not in str(row)
    again = office.open(SERVE, Served(email=ANN))
    assert office.run(again).case_id != office.run(run_id).case_id


def test_a_case_stays_open_while_another_run_of_it_waits(office: Office) -> None:
    run_id, question_id = office.asked()
    other = office.open(SERVE, Served(email=ANN))
    office.people.answer(question_id, Decision(option="yes"), CLERK)
    office.execute(SERVE, run_id)
    assert office.run(office.open(SERVE, Served(email=ANN))).case_id == office.run(other).case_id


@pytest.mark.parametrize("stuck", [True, False])
@pytest.mark.parametrize(
    ("earlier", "proof", "state"),
    [
        ("", "dmarc=pass", "opened"),
        ("", "", None),
        ("dkim=pass", "dmarc=pass", None),
        ("dkim=pass", "", None),
    ],
)
def test_a_proven_mail_is_not_turned_away_by_what_others_wrote_in_their_name(
    record: Record, clock: HandClock, earlier: str, proof: str, state: str | None, stuck: bool
) -> None:
    clock.now = NOON
    desk = RealDesk(record)
    first = desk.deliver(ANN, NOON, proof=earlier)
    opened = desk.cases.open_or_join(ANN, delivery=first, effect_id=desk.effect(1))
    desk.cases.start(desk.work, case_id=opened.case_id, effect_id=desk.effect(2))
    if stuck:
        desk.stop(opened.case_id)
    else:
        desk.answer(opened.case_id, NOON)
    mail = desk.deliver(ANN, NOON + timedelta(minutes=1), proof=proof)
    tickets = [desk.cases.open_or_join(ANN, delivery=mail, effect_id=desk.effect(3)) for _ in range(2)]
    assert tickets[0] == tickets[1]
    assert tickets[0].state == (state or ("with-person" if stuck else "answered"))
    assert (tickets[0].case_id != opened.case_id) is (state == "opened")


def test_a_proven_mail_joins_a_case_that_is_being_served(record: Record, clock: HandClock) -> None:
    clock.now = NOON
    desk = RealDesk(record)
    desk.cases.open_or_join(ANN, delivery=desk.deliver(ANN, NOON), effect_id=desk.effect(1))
    mail = desk.deliver(ANN, NOON + timedelta(minutes=1), proof="dmarc=pass")
    assert desk.cases.open_or_join(ANN, delivery=mail, effect_id=desk.effect(2)).state == "joined"


def test_an_answered_case_that_was_quiet_for_long_gives_way_to_a_new_one(record: Record, clock: HandClock) -> None:
    clock.now = NOON
    desk = RealDesk(record)
    first = desk.cases.open_or_join(ANN, delivery=desk.deliver(ANN, NOON), effect_id=desk.effect(1))
    desk.answer(first.case_id, NOON + timedelta(minutes=1))
    clock.now = NOON + QUIET + timedelta(minutes=2)
    late = desk.deliver(ANN, clock())
    second = desk.cases.open_or_join(ANN, delivery=late, effect_id=desk.effect(2))
    assert (second.state, second.case_id == first.case_id) == ("opened", False)


def test_a_case_whose_opening_run_failed_is_one_for_a_person(record: Record, clock: HandClock) -> None:
    clock.now = NOON
    desk = RealDesk(record)
    desk.cases.open_or_join(ANN, delivery=desk.deliver(ANN, NOON), effect_id=desk.effect(1))
    desk.fail_opener()
    second = desk.deliver(ANN, NOON + timedelta(minutes=1))
    assert desk.cases.open_or_join(ANN, delivery=second, effect_id=desk.effect(2)).state == "with-person"


def test_a_started_run_serves_its_case(record: Record) -> None:
    desk = RealDesk(record)
    case = desk.cases.open_or_join(ANN, delivery=desk.deliver(ANN, NOON), effect_id=desk.effect(1))
    started = desk.cases.start(desk.work, case_id=case.case_id, effect_id=desk.effect(2))
    run = desk.run(started.reference)
    assert (run.process, run.case_id, run.state) == ("serve", case.case_id, RunState.READY)
    (opened,) = desk.chain(run.run_id)
    assert opened.actor == Actor(name=f"run:{run.parent_run_id}", auth="process")


def test_a_process_that_is_not_there_cannot_be_started(record: Record) -> None:
    desk = RealDesk(record)
    case = desk.cases.open_or_join(ANN, delivery=desk.deliver(ANN, NOON), effect_id=desk.effect(1))
    with pytest.raises(Rejected, match="no process nonsense; list them with: orchestrator processes"):
        desk.cases.start(Work(process="nonsense", request="{}"), case_id=case.case_id, effect_id=desk.effect(2))


def test_the_case_desk_says_what_it_can_start(office: Office) -> None:
    assert office.cases.check() == "processes: serve"
