"""Work whose process cannot be executed yet is taken in, waits, is told of, and goes on once it can be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.bootstrap import Application, use
from orchestrator.capabilities import FileLinks
from orchestrator.errors import RunError
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.runs import Run, RunState
from orchestrator.plugins.host import PluginHost
from orchestrator.record.heartbeat import WORKER, Heartbeat
from orchestrator.record.verify import verify
from orchestrator.worker.alarms import alarms_of
from orchestrator.worker.watch import look_again
from tests.support.app_with_fakes import ANNA, CONFIG, Office
from tests.support.clock import HandClock
from tests.support.configurations import load
from tests.support.console import Console
from tests.support.gateways import serve
from tests.support.plugins import SHELF, Shelf, ShelfSettings, offering, with_processes
from tests.support.webhooks import HOOKS, Order, Process

UNBOUND = CONFIG.replace('bindings.order_records = "shop"\n', "").replace('bindings.mailer = "outbox"\n', "")
MUTE = CONFIG.replace('bindings.notifier = "chat"\n', "")


def fetch(request: Order, *, files: FileLinks) -> str:
    """Fetch a file."""
    return "fetched"


class Unsettled(Shelf):
    """Breaks the contract in a way that only a built connection shows."""

    def __init__(self, settings: ShelfSettings) -> None:
        super().__init__(settings)
        self.settlements = {}


@pytest.fixture
def apps() -> Iterator[list[Application]]:
    """The services of a test, one after the other on the same record."""
    apps: list[Application] = []
    yield apps
    with apps[-1].record.store.read() as tx:
        assert not verify(tx).breaches
    for each in apps:
        each.record.store.close()


def shop(folder: Path, bindings: str, *, build: type[Shelf] = Shelf) -> Application:
    """Return a service whose webhook ``shop`` starts a process that needs a file."""
    store = f'store = {{url = "sqlite:///{folder}/record.db", key_file = "{folder}/keys/key"}}\n'
    connection = 'prefect.api_url = "http://127.0.0.1:9/api"\nconnections.shelf = {connector = "shelf"}\n'
    hook = HOOKS.partition("[webhooks.keap]")[0].replace('"serve"', '"fetch"')
    plugins = {
        "acme": with_processes(Process(ProcessDefinition("fetch", fetch))),
        "shelf": offering(replace(SHELF, build=build)),
    }
    settings = load(folder, store + connection + bindings + hook)
    return Application(settings, plugins=PluginHost(extra=plugins))


def work(app: Application) -> None:
    """Execute what is due, as a worker does."""
    for run in app.kernel.claim(most=99, processes=app.processes).runs:
        with suppress(RunError):
            app.kernel.go_on(app.definition(run.process), run)


def stored(app: Application) -> Run:
    (run,) = app.runs.listed(limit=9)
    return run


NOT_YET: dict[str, tuple[dict[str, Any], str]] = {
    "nothing is bound": (
        {"bindings": ""},
        '[bindings] file_links: process "fetch" needs file_links, and no connection is bound to it; write "shelf"',
    ),
    "what is bound is not there": (
        {"bindings": 'bindings.file_links = "shelv"\n'},
        'there is no connection "shelv"; did you mean "shelf"?',
    ),
    "what is bound breaks the contract": (
        {"bindings": 'bindings.file_links = "shelf"\n', "build": Unsettled},
        'plug-in "shelf": connector "shelf" has no settlement for link_to',
    ),
}


@pytest.mark.parametrize(("service", "reason"), NOT_YET.values(), ids=NOT_YET)
def test_a_webhook_whose_process_cannot_be_executed_waits_and_goes_on_after_a_restart_with_what_it_lacked(
    tmp_path: Path, apps: list[Application], service: dict[str, Any], reason: str
) -> None:
    apps.append(shop(tmp_path, **service))
    with serve(apps[-1]) as gateway:
        assert gateway.shop(1).status_code == 202
    work(apps[-1])
    run = stored(apps[-1])
    assert (run.state, run.ended_at) == (RunState.PARKED, None)
    assert reason in run.reason
    look_again(apps[-1])
    assert apps[-1].runs.due(limit=9) == []

    apps.append(shop(tmp_path, 'bindings.file_links = "shelf"\n'))
    look_again(apps[-1])
    work(apps[-1])
    assert stored(apps[-1]).state is RunState.DONE


def test_a_service_whose_webhooks_would_only_wait_is_not_ready_and_takes_them_all_the_same(
    tmp_path: Path, apps: list[Application]
) -> None:
    apps.append(shop(tmp_path, ""))
    Heartbeat(apps[-1].record, WORKER).beat()
    with serve(apps[-1]) as gateway:
        found = {"ready": False, "hooks": True, "worker": True, "processes": False, "prefect": False}
        assert (gateway.client.get("/ready").json(), gateway.client.get("/ready").status_code) == (found, 503)
        assert gateway.client.get("/ready/hooks").status_code == 200


def test_a_process_that_is_switched_off_may_be_unbound_in_a_service_that_is_ready(tmp_path: Path) -> None:
    unheard = MUTE.replace('[alarms]\nprocess = "alarm"', "[processes.alarm]\nenabled = false")
    office = Office(tmp_path, unheard)
    assert office.app.hindrances() == {}


def test_mail_whose_process_cannot_be_executed_waits_and_is_told_of(tmp_path: Path, clock: HandClock) -> None:
    office = Office(tmp_path, UNBOUND, clock=clock)
    alarms_of(office.app).notify()
    office.mailbox.deliver(f"From: {ANNA}\r\nSubject: lost\r\n\r\nMy link is gone\r\n".encode())
    office.app.intake.take_in(office.app.sources()[0])
    work(office.app)
    work(office.app)
    (kept,) = office.app.runs.listed(state=RunState.PARKED, limit=9)
    assert "needs mailer, and no connection is bound to it" in kept.reason
    clock.advance(seconds=60)
    assert alarms_of(office.app).notify() is not None
    work(office.app)
    (notice,) = office.notifier.told
    assert "needs mailer" in notice.lines[0]
    office.app.record.store.close()

    bound = Office(tmp_path, clock=clock, mailbox=office.mailbox)
    look_again(bound.app)
    work(bound.app)
    with bound.app.record.store.read() as tx:
        assert bound.app.runs.get(tx, kept.run_id).state is RunState.DONE
        assert not verify(tx).breaches
    bound.app.record.store.close()


def test_a_run_that_a_person_started_waits_too(tmp_path: Path) -> None:
    office = Office(tmp_path, UNBOUND)
    run_id = office.serve(ANNA)
    assert [(run.run_id, run.state) for run in office.app.runs.listed(limit=9)] == [(run_id, RunState.PARKED)]
    office.app.record.store.close()


def test_an_alarm_that_nobody_would_hear_is_told_by_check_and_by_the_readiness(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    office = Office(tmp_path, MUTE)
    assert list(office.app.hindrances()) == ["alarm"]
    use(office.app)
    checked = Console(capsys)("check")
    use(None)
    office.app.record.store.close()
    assert checked.code == 1
    assert '[alarms] process: "alarm" cannot be executed, so nobody learns what stops' in checked.out
