from __future__ import annotations

import json
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from orchestrator.capabilities import Mailer, OrderRecords, OutgoingMail
from orchestrator.errors import (
    AccessDenied,
    RateLimited,
    RunFailed,
    RunParked,
    RunPostponed,
    Unavailable,
)
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.kernel import PATIENCE
from orchestrator.kernel.runs import RunState
from orchestrator.ledger.ledger import LONGEST_DELAY
from orchestrator.ledger.states import State
from tests.support.clock import HandClock
from tests.support.kernel_bench import (
    EMAIL,
    Bench,
    Done,
    Errand,
    FakeSystem,
    fails,
    look_up,
    process,
    send_link,
    send_one,
    watched,
)

SEND_LINK, SEND_ONE, LOOK_UP = process(send_link), process(send_one), process(look_up)


def test_a_run_goes_to_its_end_and_every_step_is_recorded(bench: Bench, system: FakeSystem) -> None:
    run_id = bench.open(SEND_LINK)
    done = bench.kernel.execute(SEND_LINK, run_id)
    assert [len(reference) for reference in done.references] == [41, 41]
    assert system.calls == ["purchases_of", "link_to", "send", "note"]
    assert bench.kinds(run_id) == [
        "run.opened",
        "step.answered",
        "step.answered",
        *("effect.intent", "effect.attempt", "effect.outcome") * 2,
        "run.finished",
    ]
    run = bench.run(run_id)
    assert (run.state, run.reason, run.ended_at) == (RunState.DONE, "", bench.record.clock())


def test_private_values_stand_in_no_body(bench: Bench) -> None:
    run_id = bench.open(SEND_LINK)
    bench.kernel.execute(SEND_LINK, run_id)
    with bench.record.store.read() as tx:
        bodies = b"".join(tx.execute(text("SELECT body FROM audit_event")).scalars())
    for secret in (EMAIL, "files.test/secret", "@test>", "Your link", "a link was sent", '"17"'):
        assert secret.encode() not in bodies
    assert b"book.pdf" in bodies


def test_a_query_that_is_unavailable_is_asked_again_later_and_later_until_a_person_must_look(
    bench: Bench, system: FakeSystem, clock: HandClock
) -> None:
    run_id = bench.open(LOOK_UP)
    waits = []
    for _ in range(PATIENCE - 1):
        system.before.append(Unavailable("the shop is down"))
        with pytest.raises(RunPostponed, match="the shop is down") as caught:
            bench.kernel.execute(LOOK_UP, run_id)
        waits.append((caught.value.due_at - clock()).total_seconds())
        assert (bench.run(run_id).state, bench.run(run_id).due_at) == (RunState.READY, caught.value.due_at)
        clock.now = caught.value.due_at
    assert waits == [min(5 * 2**n, LONGEST_DELAY.total_seconds()) for n in range(PATIENCE - 1)]
    system.before.append(Unavailable("the shop is down"))
    with pytest.raises(RunParked, match="tried 12 times: the shop is down"):
        bench.kernel.execute(LOOK_UP, run_id)
    assert bench.run(run_id).state is RunState.PARKED


def test_patience_begins_anew_with_each_step_that_was_made(bench: Bench, system: FakeSystem, clock: HandClock) -> None:
    run_id = bench.open(SEND_LINK)
    for healthy in (0, 0, 1):
        system.before.extend([None] * healthy + [Unavailable("down")])
        with pytest.raises(RunPostponed) as caught:
            bench.kernel.execute(SEND_LINK, run_id)
        clock.now = caught.value.due_at
    assert bench.run(run_id).postponed == 0


def test_a_system_that_names_its_own_wait_is_obeyed(bench: Bench, system: FakeSystem, clock: HandClock) -> None:
    for definition in (LOOK_UP, SEND_ONE):
        system.before.append(RateLimited("slow down", retry_after=timedelta(minutes=7)))
        with pytest.raises(RunPostponed) as caught:
            bench.kernel.execute(definition, bench.open(definition))
        assert caught.value.due_at == clock() + timedelta(minutes=7)
    assert not system.applied


@pytest.mark.parametrize("asked", [timedelta.max, timedelta(days=400), timedelta(0), timedelta(days=-1)])
@pytest.mark.parametrize("definition", [LOOK_UP, SEND_ONE], ids=["query", "effect"])
def test_a_wait_beyond_reason_is_not_obeyed(
    bench: Bench, system: FakeSystem, clock: HandClock, definition: ProcessDefinition, asked: timedelta
) -> None:
    system.before.append(RateLimited("slow down", retry_after=asked))
    with pytest.raises(RunPostponed) as caught:
        bench.kernel.execute(definition, bench.open(definition))
    assert timedelta(seconds=5) <= caught.value.due_at - clock() <= timedelta(days=1)


@pytest.mark.parametrize("definition", [LOOK_UP, SEND_ONE], ids=["query", "effect"])
def test_a_credential_that_is_refused_parks_the_run_which_goes_on_once_it_is_mended(
    bench: Bench, system: FakeSystem, definition: ProcessDefinition
) -> None:
    run_id = bench.open(definition)
    system.before.append(AccessDenied("the password is wrong; write the right one"))
    with pytest.raises(RunParked, match="write the right one"):
        bench.kernel.execute(definition, run_id)
    run = bench.run(run_id)
    assert (run.state, run.reason) == (RunState.PARKED, "the password is wrong; write the right one")
    assert bench.events(run_id)[-1].data["error"] == "AccessDenied"
    bench.runs.resume(run_id, actor=bench.events(run_id)[0].actor)
    bench.kernel.execute(definition, run_id)
    assert bench.run(run_id).state is RunState.DONE


def rude(errand: Errand, *, orders: OrderRecords) -> Done:
    orders.purchases_of(errand.email)
    raise ValueError(f"{errand.email} is nobody I know")


def test_an_error_of_the_process_fails_the_run_and_its_message_stays_out_of_the_record(bench: Bench) -> None:
    run_id = bench.open(process(rude))
    with pytest.raises(RunFailed, match=r"ValueError at test_kernel\.py:\d+") as caught:
        bench.kernel.execute(process(rude), run_id)
    assert EMAIL not in str(caught.value)
    assert caught.value.__cause__ is None
    assert bench.run(run_id).state is RunState.FAILED
    assert EMAIL not in bench.run(run_id).reason + json.dumps([event.data for event in bench.events(run_id)])
    assert bench.kinds(run_id) == ["run.opened", "step.answered", "run.failed"]
    with pytest.raises(RunFailed, match="resume it with"):
        bench.kernel.execute(process(rude), run_id)


@pytest.mark.parametrize("error", [OSError("anna@example.com timed out"), KeyError("anna@example.com")])
@pytest.mark.parametrize("definition", [LOOK_UP, SEND_ONE], ids=["query", "effect"])
def test_an_unknown_error_of_a_connector_is_tried_again_and_its_message_stays_out_of_the_record(
    bench: Bench, system: FakeSystem, definition: ProcessDefinition, error: Exception
) -> None:
    run_id = bench.open(definition)
    system.before.append(error)
    with pytest.raises(RunPostponed, match=rf"failed with {type(error).__name__} at kernel_bench\.py:\d+; its plug-in"):
        bench.kernel.execute(definition, run_id)
    assert EMAIL not in bench.run(run_id).reason + json.dumps([event.data for event in bench.events(run_id)])


@pytest.mark.parametrize("definition", [LOOK_UP, SEND_ONE], ids=["query", "effect"])
def test_an_answer_of_another_type_is_not_believed(
    bench: Bench, system: FakeSystem, definition: ProcessDefinition
) -> None:
    run_id = bench.open(definition)
    system.before.append(lambda: "anna@example.com")
    with pytest.raises(RunPostponed, match="answered with something else than the capability promises") as caught:
        bench.kernel.execute(definition, run_id)
    assert EMAIL not in str(caught.value)
    states = [effect["state"] for effect in bench.effects(run_id)]
    assert states == ([State.IN_DOUBT] if definition is SEND_ONE else [])


def forger(errand: Errand, *, mailer: Mailer) -> Done:
    mailer.send(OutgoingMail(to=errand.email, subject="One", text="One"), effect_id="f-mine")
    return Done()


def test_a_process_cannot_give_an_effect_its_id(bench: Bench, system: FakeSystem) -> None:
    run_id = bench.open(process(forger))
    with pytest.raises(RunFailed, match="TypeError"):
        bench.kernel.execute(process(forger), run_id)
    assert system.calls == []
    assert bench.effects(run_id) == []


def test_without_a_committed_attempt_nothing_outward_happens(bench: Bench, system: FakeSystem) -> None:
    """The store fails at the second commit, that of the attempt, and at every later one."""
    run_id = bench.open(SEND_ONE)
    down = watched(bench.record, fails(from_commit=2))
    with pytest.raises(OperationalError):
        Bench(down, system).kernel.execute(SEND_ONE, run_id)
    assert system.calls == []
    assert bench.effects(run_id) == []


@pytest.mark.parametrize("commit", [2, 3])
def test_a_store_that_fails_for_a_moment_does_not_fail_the_run(
    bench: Bench, system: FakeSystem, clock: HandClock, commit: int
) -> None:
    run_id = bench.open(SEND_ONE)
    with pytest.raises(OperationalError):
        Bench(watched(bench.record, fails(only_commit=commit)), system).kernel.execute(SEND_ONE, run_id)
    assert bench.run(run_id).state is RunState.RUNNING
    clock.advance(hours=1)
    assert bench.runs.due(limit=10) == [run_id]
    bench.kernel.execute(SEND_ONE, run_id)
    assert set(system.applied.values()) == {1}
