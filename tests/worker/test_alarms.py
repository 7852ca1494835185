"""People learn what stopped, once, and without personal data."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.bindings.guard import ConnectionState
from orchestrator.bootstrap import Application
from orchestrator.capabilities import Notice
from orchestrator.errors import AccessDenied, ConfigurationError, Rejected
from orchestrator.kernel.runs import RunState
from orchestrator.ledger.duplicates import DUPLICATED
from orchestrator.record.trail import Context, Draft
from orchestrator.worker.alarms import MOST, alarms_of
from tests.support.app_with_fakes import ANNA, CONFIG, STRANGER, Office
from tests.support.clock import HandClock
from tests.support.configurations import load
from tests.support.paths import ROOT

DENIED = AccessDenied("the password is wrong: write the right one")


@pytest.fixture
def office(tmp_path: Path, clock: HandClock) -> Iterator[Office]:
    office = Office(tmp_path, clock=clock)
    alarms_of(office.app).notify()
    clock.advance(seconds=1)
    yield office
    office.app.record.store.close()


def tell(office: Office, clock: HandClock) -> list[Notice]:
    """Let a minute pass and the alarm, if there is one, be executed; return what is new."""
    clock.advance(seconds=60)
    known = len(office.notifier.told)
    if run_id := alarms_of(office.app).notify():
        office.app.kernel.execute(office.app.definition("alarm"), run_id)
    return office.notifier.told[known:]


def told_of(notices: list[Notice]) -> set[str]:
    """Return the runs that notices name, each once."""
    named = re.findall(r"run (r-\S+) ", "\n".join(line for notice in notices for line in notice.lines))
    assert len(named) == len(set(named))
    return set(named)


def test_a_run_that_waits_for_a_person_is_told_once(office: Office, clock: HandClock) -> None:
    run_id, _ = office.ask()
    (notice,) = tell(office, clock)
    assert (notice.title, notice.severity) == ("1 run stopped", "warning")
    assert run_id in notice.lines[0]
    assert "orchestrator decisions show" in notice.lines[0]
    assert STRANGER not in str(notice.model_dump())
    assert tell(office, clock) == []


def test_a_refused_credential_is_told_as_one_alarm_however_many_runs_wait_for_it(
    office: Office, clock: HandClock
) -> None:
    for _ in range(3):
        office.orders.fail_next(DENIED)
    for _ in range(3):
        office.serve(ANNA)
    (notice,) = tell(office, clock)
    assert (notice.title, notice.severity, len(notice.lines)) == ("Connections: shop", "alarm", 1)
    assert str(DENIED) in notice.lines[0]
    office.app.health.report("shop", ConnectionState.WORKING, "")
    (notice,) = tell(office, clock)
    assert (notice.title, notice.severity) == ("Connections: shop", "info")


def test_an_effect_that_happened_twice_is_an_alarm_and_no_run_that_stopped(office: Office, clock: HandClock) -> None:
    context = Context(run_id="r-1", process="lost-download", effect_id="f-1", connection="mail")
    data = {"attempts": {}, "reason": "attempts 1 and 2 of mailer.send both happened"}
    with office.app.record.store.write() as tx:
        alarm = Draft(kind=DUPLICATED, context=context, data=data)
        office.app.record.trail.append_alone(tx, "alarm:r-1:1", alarm, clock())
    (notice,) = tell(office, clock)
    assert (notice.title, notice.severity) == ("1 effect happened twice", "alarm")
    assert notice.lines[0].endswith(
        "effect f-1 (connection mail): happened twice: attempts 1 and 2 of mailer.send both happened"
    )


def test_what_stops_together_is_told_together_and_what_does_not_fit_follows(office: Office, clock: HandClock) -> None:
    runs = [office.ask()[0] for _ in range(3)]
    (notice,) = tell(office, clock)
    assert notice.title == "3 runs stopped"
    assert all(run_id in " ".join(notice.lines) for run_id in runs)
    assert len(notice.lines) < MOST


def test_none_is_lost_when_many_runs_stop_in_the_same_moment(office: Office, clock: HandClock) -> None:
    with ThreadPoolExecutor(8) as workers:
        stopped = set(workers.map(office.serve, [f"stranger{number}@example.com" for number in range(108)]))
    assert told_of(tell(office, clock) + tell(office, clock)) == stopped


def test_none_is_lost_when_several_processes_stop_runs_meanwhile(tmp_path: Path, clock: HandClock) -> None:
    office = Office(tmp_path, clock=clock)
    alarms_of(office.app).notify()
    workers = [
        subprocess.Popen([sys.executable, "-m", "tests.support.parking_program", str(tmp_path), name, "12"], cwd=ROOT)
        for name in ("one", "two", "three")
    ]
    while any(worker.poll() is None for worker in workers):
        tell(office, clock)
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    tell(office, clock)
    stopped = {run.run_id for run in office.app.runs.listed(state=RunState.PARKED, limit=100)}
    assert len(stopped) == 36
    assert told_of(office.notifier.told) == stopped
    office.app.record.store.close()


def test_what_becomes_visible_late_is_told_all_the_same(office: Office, clock: HandClock) -> None:
    office.ask()
    assert len(tell(office, clock)) == 1
    slow = Draft(kind="run.failed", context=Context(run_id="r-slow", process="lost-download"))
    with office.app.record.store.write() as tx:
        office.app.record.trail.append_alone(tx, "r-slow", slow, clock() - timedelta(seconds=50))
    assert told_of(tell(office, clock)) == {"r-slow"}


def test_refused_credentials_keep_no_place_from_what_else_is_new(office: Office, clock: HandClock) -> None:
    for _ in range(MOST):
        office.orders.fail_next(DENIED)
    for _ in range(MOST):
        office.serve(ANNA)
    run_id, _ = office.ask()
    assert run_id in told_of(tell(office, clock))


def test_mail_for_a_person_is_told_at_once_and_then_together_and_says_nothing_of_the_customer(
    office: Office, clock: HandClock
) -> None:
    first = office.receive("Do you have linen?")
    (notice,) = tell(office, clock)
    assert (notice.title, notice.severity) == ("Mail for a person: 1 new, 1 in all", "warning")
    (line,) = notice.lines
    assert f"it is not a request that a process serves; see: orchestrator inbox show {first}" in line
    office.receive("My name is Ann")
    assert tell(office, clock) == []
    others = [office.receive("And silk?") for _ in range(2)]
    clock.advance(minutes=15)
    (notice,) = tell(office, clock)
    assert notice.title == "Mail for a person: 3 new, 4 in all"
    assert all(delivery in str(notice.lines) for delivery in others)
    assert not [word for word in (STRANGER, "linen", "Ann", "silk", "How are you") if word in str(notice.model_dump())]
    clock.advance(minutes=15)
    assert tell(office, clock) == []


def test_what_stops_meanwhile_waits_for_the_next_notice(office: Office, clock: HandClock) -> None:
    office.ask()
    assert alarms_of(office.app).notify() is not None
    later, _ = office.ask()
    clock.advance(seconds=59)
    assert alarms_of(office.app).notify() is None
    assert told_of(tell(office, clock)) == {later}


def test_nothing_is_told_of_what_happened_before_the_first_start(tmp_path: Path, clock: HandClock) -> None:
    office = Office(tmp_path, clock=clock)
    office.ask()
    assert [tell(office, clock) for _ in range(2)] == [[], []]
    office.app.record.store.close()


def test_an_alarm_that_cannot_be_told_raises_no_alarm(office: Office, clock: HandClock) -> None:
    office.ask()
    office.notifier.fail_next(Rejected("too long"))
    clock.advance(seconds=60)
    run_id = alarms_of(office.app).notify()
    assert run_id is not None
    with pytest.raises(Exception, match="too long"):
        office.app.kernel.execute(office.app.definition("alarm"), run_id)
    assert [run.process for run in office.app.runs.listed(state=RunState.FAILED, limit=9)] == ["alarm"]
    assert tell(office, clock) == []


def test_telling_again_after_a_long_calm_finds_what_is_new(office: Office, clock: HandClock) -> None:
    for _ in range(3):
        assert tell(office, clock) == []
        clock.advance(hours=5)
    office.ask()
    assert len(tell(office, clock)) == 1


def test_without_a_process_the_remedy_is_named(tmp_path: Path) -> None:
    app = Application(load(tmp_path, ""))
    with pytest.raises(ConfigurationError, match=r"\[alarms\] process"):
        alarms_of(app)


@pytest.mark.parametrize(
    ("process", "remedy"),
    [
        ("alarms", 'there is no process "alarms"; did you mean "alarm"?'),
        ("lost-download", 'the input of process "lost-download" is no notice; name a process whose input has the fie'),
    ],
)
def test_a_process_that_cannot_tell_is_found_by_the_check(tmp_path: Path, process: str, remedy: str) -> None:
    office = Office(tmp_path, CONFIG.replace('process = "alarm"', f'process = "{process}"'))
    problems = office.app.connections.compatibility(office.app.plugins.processes())
    assert [str(problem).partition("[alarms] process: ")[2][: len(remedy)] for problem in problems] == [remedy]
