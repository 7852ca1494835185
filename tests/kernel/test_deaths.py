"""A run whose workers die in it again and again waits for a person; one that gets on in between does not."""

from __future__ import annotations

import pytest

from orchestrator.capabilities import Mailer, OutgoingMail
from orchestrator.errors import RunParked, RunPostponed, Unavailable
from orchestrator.kernel.kernel import MOST_DEATHS
from orchestrator.kernel.queue import SUSPECT
from orchestrator.kernel.runs import RunState
from orchestrator.plugins import DoubtClass
from tests.support.clock import HandClock
from tests.support.kernel_bench import ANN, Bench, Done, Errand, FakeSystem, Killed, process, send_one

MAILS = MOST_DEATHS + 2


def send_many(errand: Errand, *, mailer: Mailer) -> Done:
    """Send several mails."""
    sent = [mailer.send(OutgoingMail(to=errand.email, subject=str(n), text="x")) for n in range(MAILS)]
    return Done(references=tuple(each.reference for each in sent))


SEND_ONE, SEND_MANY = process(send_one), process(send_many)


@pytest.fixture
def system() -> FakeSystem:
    return FakeSystem(DoubtClass.NATURAL)


def die(bench: Bench, system: FakeSystem, clock: HandClock, run_id: str, times: int) -> None:
    for _ in range(times):
        system.before.append(Killed())
        with pytest.raises(Killed):
            bench.kernel.execute(SEND_ONE, run_id)
        clock.advance(hours=1)


def test_a_run_whose_workers_die_in_it_waits_for_a_person(bench: Bench, system: FakeSystem, clock: HandClock) -> None:
    run_id = bench.open(SEND_ONE)
    die(bench, system, clock, run_id, MOST_DEATHS)
    with pytest.raises(RunParked, match=rf"died {MOST_DEATHS} times in it.*orchestrator runs resume {run_id}"):
        bench.kernel.execute(SEND_ONE, run_id)
    assert len(system.calls) == MOST_DEATHS
    assert bench.events(run_id)[-1].data["error"] == "RunParked"


def test_a_person_who_resumes_it_gives_it_as_many_tries_again(
    bench: Bench, system: FakeSystem, clock: HandClock
) -> None:
    run_id = bench.open(SEND_ONE)
    for _ in range(2):
        die(bench, system, clock, run_id, MOST_DEATHS)
        with pytest.raises(RunParked):
            bench.kernel.execute(SEND_ONE, run_id)
        bench.runs.resume(run_id, ANN)
    bench.kernel.execute(SEND_ONE, run_id)
    assert list(system.applied.values()) == [1]


def test_a_run_that_gets_on_between_its_workers_deaths_comes_to_its_end(
    bench: Bench, system: FakeSystem, clock: HandClock
) -> None:
    run_id = bench.open(SEND_MANY)
    for number in range(MAILS):
        system.before.extend([None, Killed()] if number else [Killed()])
        with pytest.raises(Killed):
            bench.kernel.execute(SEND_MANY, run_id)
        clock.advance(hours=1)
    bench.kernel.execute(SEND_MANY, run_id)
    assert list(system.applied.values()) == [1] * MAILS


def test_a_run_that_is_only_postponed_is_not_counted_as_dead(
    bench: Bench, system: FakeSystem, clock: HandClock
) -> None:
    run_id = bench.open(SEND_ONE)
    for _ in range(MOST_DEATHS + 1):
        system.before.append(Unavailable("down", no_effect=True))
        with pytest.raises(RunPostponed):
            bench.kernel.execute(SEND_ONE, run_id)
    assert bench.run(run_id).deaths == 0


def test_suspects_are_executed_one_at_a_time_and_keep_nobody_else_waiting(
    bench: Bench, system: FakeSystem, clock: HandClock
) -> None:
    suspects = [bench.open(SEND_ONE) for _ in range(3)]
    for run_id in suspects:
        die(bench, system, clock, run_id, SUSPECT)
    others = [bench.open(SEND_ONE) for _ in range(2)]
    seen = []

    def meanwhile() -> None:
        seen.append([each.run_id for each in bench.kernel.claim(most=2, processes=["sample"]).runs])

    first = bench.kernel.claim(most=2, processes=["sample"])
    assert (first.runs[0].run_id in suspects, first.runs[1].run_id, first.spared) == (True, others[0], True)
    system.before.append(meanwhile)
    bench.kernel.go_on(SEND_ONE, first.runs[0])
    assert seen == [[others[1]]]
    assert len(bench.kernel.claim(most=5, processes=["sample"]).runs) == 1
    assert bench.run(first.runs[0].run_id).state is RunState.DONE
