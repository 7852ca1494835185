"""Questions that nobody answers in time, on a clock that is moved by hand."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError
from sqlalchemy import text

from orchestrator.builtin.people import DEADLINE, OpenQuestion
from orchestrator.capabilities import Decision, Option, People, Question
from orchestrator.errors import NotRecorded, RunParked
from orchestrator.kernel.cancellation import cancel
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.runs import RunState
from orchestrator.record.record import Record
from tests.support.builtin import CLERK, OTHERWISE, YES, Host, Served
from tests.support.clock import HandClock

TWO_HOURS = timedelta(hours=2)
PATIENT = Question(title="Is it late?", known="Mary asks.", options=(YES, OTHERWISE), role="support", due_in=TWO_HOURS)
SELF_HELP = PATIENT.model_copy(update={"otherwise": "yes"})


def wait(request: Served, *, people: People) -> str:
    """Ask, and wait however long it takes."""
    return people.decide(PATIENT).option


def help_oneself(request: Served, *, people: People) -> str:
    """Ask, and take an option if nobody answers."""
    return people.decide(SELF_HELP).option


WAIT, HELP = ProcessDefinition("wait", wait), ProcessDefinition("help", help_oneself)


@pytest.fixture
def host(record: Record) -> Host:
    return Host(record)


def ask(host: Host, definition: ProcessDefinition = WAIT) -> OpenQuestion:
    run_id = host.open(definition, Served(email="ann@example.com"))
    with pytest.raises(RunParked):
        host.execute(definition, run_id)
    found = host.people.waiting_of(run_id)
    assert found is not None
    return found


def kinds(host: Host, run_id: str) -> list[str]:
    return [event.kind for event in host.chain(run_id)]


def test_a_question_says_until_when_and_for_how_long_it_waits(host: Host, clock: HandClock) -> None:
    asked = ask(host)
    assert (asked.due_at, asked.overdue, asked.role, asked.waiting) == (
        clock() + TWO_HOURS,
        False,
        "support",
        timedelta(),
    )
    clock.advance(hours=1, milliseconds=1)
    (waiting,) = host.people.open_questions()
    assert waiting.waiting == timedelta(hours=1)


@pytest.mark.parametrize(("hours", "passed"), [(1.99, 0), (2, 1)])
def test_a_deadline_passes_at_its_time(host: Host, clock: HandClock, hours: float, passed: int) -> None:
    ask(host)
    clock.advance(hours=hours)
    assert host.people.pass_deadlines() == passed
    assert [waiting.overdue for waiting in host.people.open_questions()] == [passed == 1]


def test_a_passed_deadline_is_recorded_once_and_shown(host: Host, clock: HandClock) -> None:
    asked = ask(host)
    clock.advance(hours=3)
    assert [host.people.pass_deadlines() for _ in range(3)] == [1, 0, 0]
    (overdue,) = [event for event in host.chain(asked.run_id) if event.kind == "decision.overdue"]
    reason = (
        "overdue since 2026-03-01 11:00 UTC: a person must answer: Is it late?; "
        f"see: orchestrator decisions show {asked.question_id}"
    )
    assert (overdue.data, overdue.context.effect_id) == ({"reason": reason}, asked.question_id)
    run = host.run(asked.run_id)
    assert (run.state, run.reason) == (RunState.PARKED, reason)


def test_an_overdue_question_stays_overdue_when_its_run_is_resumed(host: Host, clock: HandClock) -> None:
    asked = ask(host)
    clock.advance(hours=3)
    host.people.pass_deadlines()
    host.runs.resume(asked.run_id, CLERK)
    with pytest.raises(RunParked, match="overdue since 2026-03-01 11:00 UTC"):
        host.execute(WAIT, asked.run_id)
    assert host.people.pass_deadlines() == 0
    assert kinds(host, asked.run_id).count("decision.overdue") == 1


def test_an_overdue_question_can_still_be_answered(host: Host, clock: HandClock) -> None:
    asked = ask(host)
    clock.advance(hours=3)
    host.people.pass_deadlines()
    host.people.answer(asked.question_id, Decision(option="yes"), CLERK)
    assert host.execute(WAIT, asked.run_id) == "yes"


def test_the_deadline_takes_the_option_that_the_question_names_for_it(host: Host, clock: HandClock) -> None:
    asked = ask(host, HELP)
    clock.advance(hours=2, minutes=5)
    assert host.people.pass_deadlines() == 1
    assert host.runs.due(limit=5) == [asked.run_id]
    assert host.execute(HELP, asked.run_id) == "yes"
    told = [event for event in host.chain(asked.run_id) if event.kind.startswith("decision.")]
    assert [(event.kind, event.actor.name) for event in told] == [
        ("decision.overdue", "orchestrator"),
        ("decision.made", DEADLINE.name),
    ]
    assert told[0].data["reason"] == "nobody answered in time: Is it late?; so it goes on with: yes"
    assert told[1].data["waited_seconds"] == 125 * 60


def test_who_is_later_than_the_deadline_is_told_so(host: Host, clock: HandClock) -> None:
    asked = ask(host, HELP)
    clock.advance(hours=3)
    host.people.pass_deadlines()
    with pytest.raises(NotRecorded, match="the first answer counts"):
        host.people.answer(asked.question_id, Decision(option="otherwise", text="no"), CLERK)


def test_an_answered_question_has_no_deadline_any_more(host: Host, clock: HandClock) -> None:
    asked = ask(host, HELP)
    host.people.answer(asked.question_id, Decision(option="otherwise", text="wait"), CLERK)
    clock.advance(hours=3)
    assert host.people.pass_deadlines() == 0
    assert host.execute(HELP, asked.run_id) == "otherwise"


def test_a_deadline_waits_for_a_run_that_is_under_way_just_now(host: Host, clock: HandClock) -> None:
    asked = ask(host)
    host.runs.resume(asked.run_id, CLERK)
    clock.advance(hours=3)
    assert host.people.pass_deadlines() == 0
    with pytest.raises(RunParked):
        host.execute(WAIT, asked.run_id)
    assert host.people.pass_deadlines() == 1


def test_a_run_that_has_ended_asks_nobody_any_more(host: Host, record: Record, clock: HandClock) -> None:
    asked = ask(host)
    cancel(record, asked.run_id, CLERK)
    clock.advance(hours=3)
    assert (host.people.open_questions(), host.people.pass_deadlines()) == ([], 0)
    with pytest.raises(NotRecorded, match=f"no open question {asked.question_id}: its run is over"):
        host.people.find(asked.question_id)


def test_deadlines_are_found_by_an_index(record: Record) -> None:
    late = "SELECT 1 FROM question WHERE answered_at IS NULL AND overdue_at IS NULL AND due_at <= 'x'"
    sqlite = record.store.dialect == "sqlite"
    with record.store.read() as tx:
        if not sqlite:
            tx.execute(text("SET LOCAL enable_seqscan = off"))  # it prefers to read small tables as a whole
        plan = tx.execute(text(f"EXPLAIN {'QUERY PLAN ' if sqlite else ''}{late}")).all()
    assert "ix_question_due" in str(plan)


def asks(question: Question) -> ProcessDefinition:
    """Return the process ``wait`` as somebody edited it."""

    def edited(request: Served, *, people: People) -> str:
        return people.decide(question).option

    return ProcessDefinition("wait", edited)


def test_a_run_that_stopped_for_another_reason_waits_for_no_answer(host: Host) -> None:
    """Its process was changed meanwhile, so that an answer would not let it go on."""
    asked = ask(host)
    host.runs.resume(asked.run_id, CLERK)
    with pytest.raises(RunParked, match="the process changed"):
        host.execute(asks(PATIENT.model_copy(update={"options": (YES,)})), asked.run_id)
    assert host.people.waiting_of(asked.run_id) is None


@pytest.mark.parametrize("answered_first", [True, False])
def test_another_wording_does_not_make_a_waiting_question_another_one(host: Host, answered_first: bool) -> None:
    asked = ask(host)
    options = (YES.model_copy(update={"label": "Go on"}), OTHERWISE.model_copy(update={"needs_text": "what else"}))
    edited = asks(Question(title="Is it so?", known="Mary asks again.", options=options))
    if not answered_first:
        host.runs.resume(asked.run_id, CLERK)
        with pytest.raises(RunParked, match="Is it so"):
            host.execute(edited, asked.run_id)
        assert host.people.waiting_of(asked.run_id) == asked
    host.people.answer(asked.question_id, Decision(option="yes"), CLERK)
    assert host.execute(edited, asked.run_id) == "yes"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"options": ()}, "at least 1 item"),
        ({"options": (YES, YES)}, "two options have the same key"),
        ({"options": (YES, Option(key="no", label="Do it"))}, "two options have the same label"),
        ({"otherwise": "yes", "due_in": None}, "give due_in as well"),
        ({"otherwise": "never"}, "'never' is no option"),
        ({"otherwise": "otherwise"}, "needs a text: what to do"),
        ({"due_in": timedelta()}, "due_in must be more than nothing"),
    ],
)
def test_a_question_that_nobody_could_answer_well_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Question.model_validate({**dict(PATIENT), **changes})
