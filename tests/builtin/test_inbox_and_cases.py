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
from orchestrator.testing.contracts.builtin import ANN, NOON
from tests.support.builtin import CLERK, QUESTION, SERVE, TRIAGE, Host, RealHost, Served
from tests.support.clock import HandClock


@pytest.fixture
def host(record: Record) -> Host:
    return Host(record)


def test_a_question_parks_its_run_and_waits_for_a_person(host: Host, clock: HandClock) -> None:
    run_id, question_id = host.asked()
    assert host.run(run_id).state is RunState.PARKED
    (waiting,) = host.people.open_questions()
    assert (waiting.run_id, waiting.asked_at, waiting.question) == (run_id, clock(), QUESTION)
    assert host.run(run_id).reason == (
        f"a person must answer: Shall it be done?; see: orchestrator decisions show {question_id}"
    )


def test_asking_again_keeps_one_question(host: Host) -> None:
    run_id, question_id = host.asked()
    for _ in range(2):
        host.runs.resume(run_id, CLERK)
        with pytest.raises(RunParked):
            host.execute(SERVE, run_id)
    with pytest.raises(AwaitingDecision):
        host.people.decide(QUESTION, effect_id=question_id)
    assert [waiting.question_id for waiting in host.people.open_questions()] == [question_id]


def test_an_answer_lets_the_run_go_on_with_it(host: Host, clock: HandClock) -> None:
    run_id, question_id = host.asked()
    clock.advance(hours=2)
    host.people.answer(question_id, Decision(option="otherwise", text="call her"), CLERK)
    assert (host.run(run_id).state, host.run(run_id).due_at) == (RunState.READY, clock())
    assert host.people.open_questions() == []
    assert host.execute(SERVE, run_id) == "otherwise:call her"
    assert host.run(run_id).state is RunState.DONE


def test_who_answered_and_how_long_it_waited_stands_in_the_trail_and_what_was_written_does_not(
    host: Host, clock: HandClock
) -> None:
    run_id, question_id = host.asked()
    clock.advance(minutes=90, milliseconds=700)
    answer = Decision(option="otherwise", text="call mary@example.com")
    host.people.answer(question_id, answer, CLERK, screen="sha256:0f")
    (made,) = [event for event in host.chain(run_id) if event.kind == "decision.made"]
    assert made.actor == CLERK
    assert made.context.effect_id == question_id
    assert made.data["answer"]["option"] == "otherwise"
    assert (made.data["waited_seconds"], made.data["screen"]) == (5400, "sha256:0f")
    assert "mary" not in str([event.data for event in host.chain(run_id)])


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (Decision(option="maybe"), "'maybe' is no option; choose one of: yes, otherwise"),
        (Decision(option=""), "'' is no option; choose one of: yes, otherwise"),
        (Decision(option="otherwise"), "option otherwise needs a text: what to do"),
        (Decision(option="otherwise", text=" \n"), "option otherwise needs a text: what to do"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_and_changes_nothing(host: Host, decision: Decision, said: str) -> None:
    run_id, question_id = host.asked()
    before = host.chain(run_id)
    with pytest.raises(RecordError) as caught:
        host.people.answer(question_id, decision, CLERK)
    assert str(caught.value) == said
    assert (host.chain(run_id), host.run(run_id).state) == (before, RunState.PARKED)
    assert len(host.people.open_questions()) == 1


def test_a_question_is_answered_once(host: Host) -> None:
    _, question_id = host.asked()
    host.people.answer(question_id, Decision(option="yes"), CLERK)
    with pytest.raises(NotRecorded, match="it was answered at 2026-03-01 09:00:00 UTC, and the first answer counts"):
        host.people.answer(question_id, Decision(option="otherwise", text="no"), CLERK)
    with pytest.raises(NotRecorded, match="no open question f-0; list them with: orchestrator decisions"):
        host.people.answer("f-0", Decision(option="yes"), CLERK)


def test_an_answer_outlives_its_program(host: Host, reopen: Callable[[], Record]) -> None:
    run_id, question_id = host.asked()
    host.people.answer(question_id, Decision(option="yes"), CLERK)
    assert Host(reopen()).execute(SERVE, run_id) == "yes:"


def test_an_answer_that_comes_before_the_run_is_parked_is_asked_for_again(host: Host, clock: HandClock) -> None:
    """The question is there some moments before its run is given back; woken then, it would not hear."""
    run_id, question_id = host.asked()
    host.runs.resume(run_id, CLERK)
    assert host.runs.acquire(run_id, "another worker", process=SERVE.name) is not None
    with pytest.raises(RecordError, match="try again in a moment"):
        host.people.answer(question_id, Decision(option="yes"), CLERK)
    clock.advance(minutes=10)
    with pytest.raises(RunParked):
        host.execute(SERVE, run_id)
    host.people.answer(question_id, Decision(option="yes"), CLERK)
    assert host.execute(SERVE, run_id) == "yes:"


def test_open_questions_come_oldest_first(host: Host, clock: HandClock) -> None:
    asked = []
    for minute in range(3):
        clock.advance(minutes=minute)
        run_id = host.open(SERVE, Served(email=f"{minute}@example.com"))
        with pytest.raises(RunParked):
            host.execute(SERVE, run_id)
        asked.append(run_id)
    assert [waiting.run_id for waiting in host.people.open_questions()] == asked
    assert host.people.check() == "3 open questions"


def test_no_word_of_a_question_lies_open_in_its_row(host: Host) -> None:
    host.asked()
    with host.record.store.read() as tx:
        (row,) = tx.execute(select(question)).all()
    assert "mary" not in str(row)


@pytest.fixture
def kept(host: Host) -> str:
    """A mail that waits for a person."""
    host.mailbox.deliver(b"From: ann@example.com\r\nSubject: Hello\r\n\r\nHow are you?\r\n")
    source = Source(name="support", mailbox=host.mailbox, process=TRIAGE, from_beginning=True)
    MailIntake(host.record, host.runs).take_in(source)
    (run_id,) = host.runs.due(limit=10)
    host.execute(TRIAGE, run_id)
    (found,) = host.inbox.listed(limit=10)
    return found.delivery


def test_a_mail_for_a_person_is_listed_with_its_reason_until_it_is_closed(host: Host, kept: str) -> None:
    (found,) = host.inbox.listed(state=DeliveryState.FOR_PERSON, limit=10)
    assert (found.delivery, found.note) == (kept, "a test")
    assert host.inbox.check() == "1 mails wait for a person"
    host.inbox.close(kept, CLERK)
    assert host.inbox.listed(state=DeliveryState.FOR_PERSON, limit=10) == []
    assert host.inbox.check() == "0 mails wait for a person"


def test_who_closed_a_mail_stands_in_the_trail(host: Host, kept: str) -> None:
    host.inbox.close(kept, CLERK)
    (found,) = host.inbox.listed(limit=10)
    closed = host.chain(str(found.run_id))[-1]
    assert (closed.kind, closed.actor, closed.data) == ("delivery.closed", CLERK, {"delivery": kept})


def test_only_a_mail_that_waits_for_a_person_can_be_closed(host: Host, kept: str) -> None:
    host.inbox.close(kept, CLERK)
    for delivery in (kept, "d-0"):
        with pytest.raises(NotRecorded, match="does not wait for a person"):
            host.inbox.close(delivery, CLERK)
    (found,) = host.inbox.listed(limit=10)
    assert [event.kind for event in host.chain(str(found.run_id))].count("delivery.closed") == 1


def test_mail_from_ourselves_is_known(host: Host, kept: str) -> None:
    assert host.inbox.read(kept).automatic == ""
    assert HostInbox(host.record, frozenset({"ann@example.com"})).read(kept).automatic == "our own address"


def test_a_listed_mail_shows_nothing_personal(host: Host, kept: str) -> None:
    assert "ann@example.com" not in str(host.inbox.listed(limit=10))


def test_a_case_whose_run_answered_nothing_is_closed_and_not_answered(host: Host, clock: HandClock) -> None:
    run_id, question_id = host.asked()
    host.people.answer(question_id, Decision(option="yes"), CLERK)
    host.execute(SERVE, run_id)
    with host.record.store.read() as tx:
        (row,) = tx.execute(select(customer_case)).all()
    assert (row.answered_at, row.closed_at) == (None, stamp(clock()))
    assert "ann" not in str(row)
    again = host.open(SERVE, Served(email=ANN))
    assert host.run(again).case_id != host.run(run_id).case_id


def test_a_case_stays_open_while_another_run_of_it_waits(host: Host) -> None:
    run_id, question_id = host.asked()
    other = host.open(SERVE, Served(email=ANN))
    host.people.answer(question_id, Decision(option="yes"), CLERK)
    host.execute(SERVE, run_id)
    assert host.run(host.open(SERVE, Served(email=ANN))).case_id == host.run(other).case_id


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
    host = RealHost(record)
    first = host.deliver(ANN, NOON, proof=earlier)
    opened = host.cases.open_or_join(ANN, delivery=first, effect_id=host.effect(1))
    host.cases.start(host.work, case_id=opened.case_id, effect_id=host.effect(2))
    if stuck:
        host.stop(opened.case_id)
    else:
        host.answer(opened.case_id, NOON)
    mail = host.deliver(ANN, NOON + timedelta(minutes=1), proof=proof)
    tickets = [host.cases.open_or_join(ANN, delivery=mail, effect_id=host.effect(3)) for _ in range(2)]
    assert tickets[0] == tickets[1]
    assert tickets[0].state == (state or ("with-person" if stuck else "answered"))
    assert (tickets[0].case_id != opened.case_id) is (state == "opened")


def test_a_proven_mail_joins_a_case_that_is_being_served(record: Record, clock: HandClock) -> None:
    clock.now = NOON
    host = RealHost(record)
    host.cases.open_or_join(ANN, delivery=host.deliver(ANN, NOON), effect_id=host.effect(1))
    mail = host.deliver(ANN, NOON + timedelta(minutes=1), proof="dmarc=pass")
    assert host.cases.open_or_join(ANN, delivery=mail, effect_id=host.effect(2)).state == "joined"


def test_an_answered_case_that_was_quiet_for_long_gives_way_to_a_new_one(record: Record, clock: HandClock) -> None:
    clock.now = NOON
    host = RealHost(record)
    first = host.cases.open_or_join(ANN, delivery=host.deliver(ANN, NOON), effect_id=host.effect(1))
    host.answer(first.case_id, NOON + timedelta(minutes=1))
    clock.now = NOON + QUIET + timedelta(minutes=2)
    late = host.deliver(ANN, clock())
    second = host.cases.open_or_join(ANN, delivery=late, effect_id=host.effect(2))
    assert (second.state, second.case_id == first.case_id) == ("opened", False)


def test_a_case_whose_opening_run_failed_is_one_for_a_person(record: Record, clock: HandClock) -> None:
    clock.now = NOON
    host = RealHost(record)
    host.cases.open_or_join(ANN, delivery=host.deliver(ANN, NOON), effect_id=host.effect(1))
    host.fail_opener()
    second = host.deliver(ANN, NOON + timedelta(minutes=1))
    assert host.cases.open_or_join(ANN, delivery=second, effect_id=host.effect(2)).state == "with-person"


def test_a_started_run_serves_its_case(record: Record) -> None:
    host = RealHost(record)
    case = host.cases.open_or_join(ANN, delivery=host.deliver(ANN, NOON), effect_id=host.effect(1))
    started = host.cases.start(host.work, case_id=case.case_id, effect_id=host.effect(2))
    run = host.run(started.reference)
    assert (run.process, run.case_id, run.state) == ("serve", case.case_id, RunState.READY)
    (opened,) = host.chain(run.run_id)
    assert opened.actor == Actor(name=f"run:{run.parent_run_id}", auth="process")


def test_a_process_that_is_not_there_cannot_be_started(record: Record) -> None:
    host = RealHost(record)
    case = host.cases.open_or_join(ANN, delivery=host.deliver(ANN, NOON), effect_id=host.effect(1))
    with pytest.raises(Rejected, match="no process nonsense; list them with: orchestrator processes"):
        host.cases.start(Work(process="nonsense", request="{}"), case_id=case.case_id, effect_id=host.effect(2))


def test_the_case_desk_says_what_it_can_start(host: Host) -> None:
    assert host.cases.check() == "processes: serve"
