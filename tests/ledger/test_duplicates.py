"""An effect that is known to have happened twice is an alarm with both receipts, whichever answer comes first."""

from __future__ import annotations

from contextlib import suppress

import pytest

from orchestrator.errors import LeaseLost, RunError
from orchestrator.kernel.resolution import Happened, happened_twice, settle
from orchestrator.kernel.runs import RunState
from orchestrator.ledger.duplicates import DUPLICATED, LATE
from orchestrator.ledger.states import Cause
from orchestrator.plugins import DoubtClass
from orchestrator.plugins.standard import STANDARD
from orchestrator.record.trail import COMMITMENT, Event
from orchestrator.record.verify import verify
from tests.support.clock import HandClock
from tests.support.doubtful_runs import LOST, SEND_ONE
from tests.support.kernel_bench import ANN, Bench, FakeSystem


def alarms(bench: Bench, run_id: str) -> list[Event]:
    chains = [f"alarm:{run_id}:{fence}" for fence in range(1, bench.run(run_id).fence + 1)]
    return [event for chain in chains for event in bench.events(chain)]


def kinds(bench: Bench, run_id: str) -> list[str]:
    return [event.kind for event in alarms(bench, run_id)]


def both_times(bench: Bench) -> list[Happened]:
    """Return the times of the one effect that happened twice, once it is known that its record verifies."""
    with bench.record.store.read() as tx:
        assert verify(tx).breaches == ()
    times = happened_twice(bench.record, private=True)
    (effect_id,) = {each.effect_id for each in times}
    assert [each.answer["reference"] for each in times] == [f"<{effect_id}@test>"] * 2
    assert all(COMMITMENT in each.answer["reference"] for each in happened_twice(bench.record))
    return times


def test_a_late_answer_after_another_attempts_is_an_alarm(bench: Bench, system: FakeSystem, clock: HandClock) -> None:
    run_id = bench.open(SEND_ONE)
    other = Bench(bench.record, system, owner="worker-2")

    def freeze() -> None:
        clock.advance(minutes=10)
        other.kernel.execute(SEND_ONE, run_id)

    system.before.append(freeze)
    with pytest.raises(LeaseLost):
        bench.kernel.execute(SEND_ONE, run_id)
    assert (set(system.applied.values()), bench.run(run_id).state) == ({2}, RunState.DONE)
    late, alarm = alarms(bench, run_id)
    assert (late.kind, late.data["outcome"], alarm.kind) == (LATE, "success", DUPLICATED)
    assert {each.attempt for each in both_times(bench)} == {1, 2}
    assert alarm.data["reason"].startswith("attempts 1 and 2 of mailer.send both happened")


def test_a_late_answer_before_another_attempts_is_an_alarm_as_soon_as_that_is_confirmed(
    bench: Bench, system: FakeSystem, clock: HandClock
) -> None:
    run_id = bench.open(SEND_ONE)
    other = Bench(bench.record, system, owner="worker-2")

    def go_on() -> None:
        clock.advance(minutes=10)
        with suppress(RunError):
            other.kernel.execute(SEND_ONE, run_id)

    system.before.extend([go_on, LOST])
    with pytest.raises(LeaseLost):
        bench.kernel.execute(SEND_ONE, run_id)
    assert kinds(bench, run_id) == [LATE], "of the second attempt, nobody knows yet"
    system.probe_failures.append(system.applied.clear)  # the system does not show it (yet)
    go_on()
    assert bench.run(run_id).state is RunState.DONE
    assert sorted(kinds(bench, run_id)) == [DUPLICATED, LATE]
    assert {each.attempt for each in both_times(bench)} == {1, 3}


def test_a_late_answer_after_a_person_let_it_be_done_again_is_an_alarm(
    bench: Bench, system: FakeSystem, clock: HandClock
) -> None:
    system.doubt = DoubtClass.NONE
    run_id = bench.open(SEND_ONE)
    other = Bench(bench.record, system, owner="worker-2")

    def freeze() -> None:
        clock.advance(minutes=10)
        with suppress(RunError):
            other.kernel.execute(SEND_ONE, run_id)
        settle(bench.record, STANDARD, bench.effects(run_id)[0]["effect_id"], Cause.RETRY, ANN)
        other.kernel.execute(SEND_ONE, run_id)

    system.before.append(freeze)
    with pytest.raises(LeaseLost):
        bench.kernel.execute(SEND_ONE, run_id)
    assert kinds(bench, run_id) == [LATE, DUPLICATED]
    assert {each.attempt for each in both_times(bench)} == {1, 2}


@pytest.mark.parametrize("doubt", [DoubtClass.NATURAL, DoubtClass.NATIVE_KEY])
def test_what_may_be_repeated_without_harm_is_no_alarm(
    bench: Bench, system: FakeSystem, clock: HandClock, doubt: DoubtClass
) -> None:
    system.doubt = doubt
    run_id = bench.open(SEND_ONE)

    def freeze() -> None:
        clock.advance(minutes=10)
        Bench(bench.record, system, owner="worker-2").kernel.execute(SEND_ONE, run_id)

    system.before.append(freeze)
    with pytest.raises(LeaseLost):
        bench.kernel.execute(SEND_ONE, run_id)
    assert (kinds(bench, run_id), set(system.applied.values())) == ([LATE], {1})
    assert happened_twice(bench.record) == []


def test_a_late_answer_of_the_very_attempt_that_a_look_found_is_no_alarm(
    bench: Bench, system: FakeSystem, clock: HandClock
) -> None:
    run_id = bench.open(SEND_ONE)

    def freeze() -> None:
        clock.advance(minutes=10)
        Bench(bench.record, system, owner="worker-2").kernel.execute(SEND_ONE, run_id)

    system.after.append(freeze)
    with pytest.raises(LeaseLost):
        bench.kernel.execute(SEND_ONE, run_id)
    assert (kinds(bench, run_id), system.calls) == ([LATE], ["send"])
