from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.capabilities import (
    Decision,
    Mailer,
    Option,
    OutgoingMail,
    People,
    Question,
)
from orchestrator.errors import (
    EffectAbandoned,
    NotRecorded,
    RecordError,
    RunParked,
)
from orchestrator.kernel.resolution import open_effects, settle
from orchestrator.ledger.states import Cause, State
from orchestrator.plugins import Capabilities, DoubtClass
from orchestrator.plugins.standard import STANDARD
from tests.support.clock import HandClock
from tests.support.doubtful_runs import LOST, REPEATED, SEND_ONE, doubtful, state_of
from tests.support.kernel_bench import (
    ANN,
    Bench,
    Done,
    Errand,
    FakeSystem,
    process,
)


def test_a_doubt_that_nobody_can_settle_waits_for_a_person(bench: Bench, system: FakeSystem, clock: HandClock) -> None:
    run_id = doubtful(bench, system, DoubtClass.NONE, applied=True)
    (effect,) = bench.effects(run_id)
    assert effect["state"] == State.NEEDS_DECISION
    assert f"orchestrator effects settle {effect['effect_id']}" in bench.run(run_id).reason
    for _ in range(3):
        clock.advance(days=1)
        assert bench.runs.due(limit=10) == []
        with pytest.raises(RunParked):
            bench.kernel.execute(SEND_ONE, run_id)
    assert system.calls == ["send"]
    (waiting,) = open_effects(bench.record)
    assert (waiting.effect_id, waiting.operation, waiting.doubt) == (effect["effect_id"], "mailer.send", "none")


@pytest.mark.parametrize("decision", [Cause.HAPPENED, Cause.RETRY])
def test_a_person_settles_what_nobody_else_can(
    bench: Bench, system: FakeSystem, clock: HandClock, decision: Cause
) -> None:
    run_id = doubtful(bench, system, DoubtClass.NONE, applied=decision is Cause.HAPPENED)
    settle(bench.record, STANDARD, bench.effects(run_id)[0]["effect_id"], decision, ANN)
    assert bench.runs.due(limit=10) == [run_id]
    done = bench.kernel.execute(SEND_ONE, run_id)
    happened = decision is Cause.HAPPENED
    assert done.references == ("" if happened else f"<{bench.effects(run_id)[0]['effect_id']}@test>",)
    assert system.calls == ["send"] * (1 if happened else 2)
    assert (set(system.applied.values()), state_of(bench, run_id)) == ({1}, State.CONFIRMED)
    (decided,) = [event for event in bench.events(run_id) if event.kind == "effect.decision"]
    assert (decided.actor, decided.data) == (ANN, {"decision": decision})
    assert open_effects(bench.record) == []


def gives_up_well(errand: Errand, *, mailer: Mailer) -> Done:
    try:
        mailer.send(OutgoingMail(to=errand.email, subject="One", text="One"))
    except EffectAbandoned:
        return Done(references=("given up",))
    return Done()


def test_a_process_takes_another_way_when_an_effect_is_given_up(bench: Bench, system: FakeSystem) -> None:
    system.doubt = DoubtClass.NONE
    system.before.append(LOST)
    run_id = bench.open(process(gives_up_well))
    with pytest.raises(RunParked):
        bench.kernel.execute(process(gives_up_well), run_id)
    settle(bench.record, STANDARD, bench.effects(run_id)[0]["effect_id"], Cause.GIVE_UP, ANN)
    assert bench.kernel.execute(process(gives_up_well), run_id) == Done(references=("given up",))
    assert (state_of(bench, run_id), system.calls) == (State.ABANDONED, ["send"])


def test_only_what_waits_for_a_decision_can_be_settled_and_once(bench: Bench, system: FakeSystem) -> None:
    with pytest.raises(NotRecorded, match="no effect f-none"):
        settle(bench.record, STANDARD, "f-none", Cause.RETRY, ANN)
    run_id = doubtful(bench, system, DoubtClass.NONE, applied=False)
    effect_id = bench.effects(run_id)[0]["effect_id"]
    for cause in (Cause.SUCCEED, Cause.PLAN, Cause.FOUND, Cause.REPEAT):
        with pytest.raises(RecordError, match="cannot"):
            settle(bench.record, STANDARD, effect_id, cause, ANN)
    settle(bench.record, STANDARD, effect_id, Cause.HAPPENED, ANN)
    before = bench.kinds(run_id)
    with pytest.raises(RecordError, match="is confirmed: it does not wait for a decision"):
        settle(bench.record, STANDARD, effect_id, Cause.RETRY, ANN)
    assert bench.kinds(run_id) == before


def asks(errand: Errand, *, people: People) -> str:
    options = (Option(key="yes", label="Yes"), Option(key="no", label="No"))
    return people.decide(Question(title="Is it so?", known=errand.email, options=options)).option


def test_an_effect_that_answers_with_more_than_a_receipt_cannot_be_said_to_have_happened(
    bench: Bench, clock: HandClock
) -> None:
    run_id = bench.open(process(asks))
    lost: Any = FakeSystem(DoubtClass.NONE)
    lost.decide = fails_once(LOST)
    with pytest.raises(RunParked):
        Bench(bench.record, lost).kernel.execute(process(asks), run_id)
    effect_id = bench.effects(run_id)[0]["effect_id"]
    with pytest.raises(RecordError, match="answers with more than a receipt"):
        settle(bench.record, STANDARD, effect_id, Cause.HAPPENED, ANN)
    settle(bench.record, STANDARD, effect_id, Cause.RETRY, ANN)
    assert Bench(bench.record, lost).kernel.execute(process(asks), run_id) == "yes"


def fails_once(error: Exception) -> Callable[..., Decision]:
    errors = [error]

    def decide(question: Question) -> Decision:
        if errors:
            raise errors.pop()
        return Decision(option="yes")

    return decide


@pytest.mark.parametrize("doubt", [*REPEATED, DoubtClass.PROBE])
def test_a_doubt_about_one_connection_is_not_settled_through_another(
    bench: Bench, system: FakeSystem, clock: HandClock, doubt: DoubtClass
) -> None:
    """The process was bound to another system while an effect was in doubt: that one knows nothing of it."""
    run_id = doubtful(bench, system, doubt, applied=True)
    other = FakeSystem(doubt)
    moved = Bench(bench.record, other)
    moved.connection = "another"
    clock.advance(minutes=10)
    with pytest.raises(RunParked, match=r"nobody can know whether step 1 .*connection fake"):
        moved.kernel.execute(SEND_ONE, run_id)
    assert state_of(bench, run_id) is State.NEEDS_DECISION
    settle(bench.record, STANDARD, bench.effects(run_id)[0]["effect_id"], Cause.RETRY, ANN)
    moved.kernel.execute(SEND_ONE, run_id)
    assert (bench.effects(run_id)[0]["connection"], other.calls) == ("another", ["send"])


def test_every_event_of_a_step_says_what_the_step_does_without_its_plugin(bench: Bench, system: FakeSystem) -> None:
    run_id = doubtful(bench, system, DoubtClass.NONE, applied=True)
    settle(bench.record, STANDARD, bench.effects(run_id)[0]["effect_id"], Cause.GIVE_UP, ANN)
    of_step = [event for event in bench.events(run_id) if event.context.operation]
    assert {event.kind for event in of_step} >= {"effect.intent", "effect.needs_decision", "effect.decision"}
    assert {event.context.title for event in of_step} == {"Send the mail"}


def test_an_effect_of_a_missing_plugin_can_be_given_up_and_not_be_said_to_have_happened(
    bench: Bench, system: FakeSystem
) -> None:
    effect_id = bench.effects(doubtful(bench, system, DoubtClass.NONE, applied=True))[0]["effect_id"]
    with pytest.raises(RecordError, match="no plug-in brings mailer now"):
        settle(bench.record, Capabilities(()), effect_id, Cause.HAPPENED, ANN)
    settle(bench.record, Capabilities(()), effect_id, Cause.GIVE_UP, ANN)
