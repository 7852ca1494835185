"""Deployments in Prefect: schedules, what they say before a start, and flows that code calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from threading import Event, Thread
from types import ModuleType
from typing import Any

import anyio
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.logging.handlers import APILogHandler

from orchestrator.bindings.guard import ConnectionState
from orchestrator.bootstrap import Application, use
from orchestrator.capabilities import FileLinks
from orchestrator.kernel.runs import RunState
from orchestrator.plugins.host import PluginHost
from orchestrator.prefect_lane.auth import auth_string
from orchestrator.prefect_lane.deployment_notices import ConnectionNotices
from orchestrator.prefect_lane.deployments import register
from orchestrator.prefect_lane.environment import prefect_at
from orchestrator.process import Schedule, process
from orchestrator.sandbox.systems import Sandbox, wait_until
from orchestrator.worker.prefect_sync import mirror
from tests.support.configurations import load
from tests.support.kernel_bench import Errand
from tests.support.plugins import SHELF, offering, with_processes
from tests.support.prefect_operator import (
    PATIENCE,
    flow_run_ended,
)

# Prefect's server on SQLite answers late, or with 503, while its own requests wait for each other.
pytestmark = pytest.mark.flaky(reruns=2)


@process("tick", schedule=Schedule(cron="0 8 * * *", timezone="Europe/Berlin", request={"email": "run:me"}))
def tick(request: Errand) -> None:
    """Do nothing, every morning."""


def apart(sandbox: Sandbox, folder: Path, text: str, **plugins: ModuleType) -> Application:
    """Return an application with a record and a work pool of its own, on the same Prefect server."""
    (pool,) = list(plugins)[:1]
    login = auth_string(sandbox.settings())
    prefect = f"prefect = {{api_url = '{sandbox.prefect_url}/api', work_pool = '{pool}', auth_string = '{login}'}}\n"
    store = f"store = {{url = 'sqlite:///{folder}/record.db', key_file = '{folder}/keys/kek'}}\n"
    return Application(load(folder, prefect + store + text), plugins=PluginHost(extra=plugins))


def start(app: Application) -> None:
    """Register as a worker does at its start."""

    async def registered() -> None:
        async with get_client() as client:
            await register(client, app)

    anyio.run(registered)


def ticking(sandbox: Sandbox, folder: Path, text: str = "", *processes: object) -> list[dict[str, Any]]:
    """Register as a worker does at its start, in a work pool of its own; return the schedules of the process."""
    app = apart(sandbox, folder, text, ticks=with_processes(*processes))
    with prefect_at(app.settings):
        start(app)
    app.record.store.close()
    schedules: list[dict[str, Any]] = sandbox.ask_prefect("GET", "/deployments/name/tick/tick")["schedules"]
    return schedules


def test_process_called_by_code_runs_in_a_flow_run_that_retention_finds(sandbox: Sandbox, tmp_path: Path) -> None:
    app = apart(sandbox, tmp_path, "", ticks=with_processes(tick))
    use(app)
    assert tick(Errand()) is None
    APILogHandler().flush()
    (run,) = app.runs.listed(limit=2)
    assert run.state is RunState.DONE
    flow_run = flow_run_ended(sandbox, str(run.prefect_run_id))
    assert (flow_run["deployment_id"], flow_run["tags"]) == (None, ["orchestrator"])
    assert flow_run["parameters"] == {"request": f"run:{run.run_id}"}
    app.record.store.close()


def test_declared_schedule_is_registered_once_and_follows_the_configuration(sandbox: Sandbox, tmp_path: Path) -> None:
    [first] = ticking(sandbox, tmp_path, "", tick)
    assert (first["schedule"]["cron"], first["schedule"]["timezone"]) == ("0 8 * * *", "Europe/Berlin")
    assert first["parameters"] == {"request": {"email": "run:me"}}
    assert ticking(sandbox, tmp_path, "", tick) == [first]
    weekly = "processes.tick.schedule.rrule = 'FREQ=WEEKLY'"
    [changed] = ticking(sandbox, tmp_path, weekly, tick)
    assert changed["schedule"]["rrule"].endswith("FREQ=WEEKLY")
    assert ticking(sandbox, tmp_path, weekly, tick) == [changed]
    assert ticking(sandbox, tmp_path, "processes.tick.schedule.enabled = false", tick) == []
    [again] = ticking(sandbox, tmp_path, "processes.tick.schedule.every_seconds = 60", tick)
    assert again["schedule"]["interval"] == 60
    assert ticking(sandbox, tmp_path, "processes.tick.schedule.every_seconds = 60", tick) == [again]


def test_schedule_that_an_operator_paused_stays_so(sandbox: Sandbox, tmp_path: Path) -> None:
    [schedule] = ticking(sandbox, tmp_path, "", tick)
    path = f"/deployments/{schedule['deployment_id']}/schedules"

    def paused() -> bool:
        sandbox.ask_prefect("PATCH", f"{path}/{schedule['id']}", {"active": False})
        return [found["active"] for found in sandbox.ask_prefect("GET", path) or []] == [False]

    assert wait_until(paused, PATIENCE)
    assert [found["active"] for found in ticking(sandbox, tmp_path, "", tick)] == [False]


def test_schedule_of_a_process_that_is_gone_is_removed_and_no_other_one(sandbox: Sandbox, tmp_path: Path) -> None:
    assert ticking(sandbox, tmp_path, "", tick)
    assert ticking(sandbox, tmp_path) == []
    [elsewhere] = sandbox.ask_prefect("GET", "/deployments/name/lost-download/lost-download")["schedules"]
    assert elsewhere["active"]


@process("files-check", schedule=Schedule(cron="0 8 * * *", timezone="Europe/Berlin", request={"email": "run:me"}))
def files_check(request: Errand, *, files: FileLinks) -> None:
    """See whether the files are there."""


NEEDY = """
connections = {shelf = {connector = "shelf"}}
bindings = {file_links = "shelf"}
"""


@contextmanager
def showing(app: Application) -> Iterator[None]:
    """Let the part of a worker run that shows things in Prefect."""
    stop = Event()
    thread = Thread(target=copy_context().run, args=(mirror, app, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        app.ended.set()
        thread.join()


def test_deployment_says_that_a_connection_is_refused_until_it_works_again(sandbox: Sandbox, tmp_path: Path) -> None:
    app = apart(sandbox, tmp_path, NEEDY, needy=with_processes(files_check), acme=offering(SHELF))

    def says(*tags: str) -> dict[str, Any]:
        def found() -> dict[str, Any]:
            deployment = sandbox.ask_prefect("GET", "/deployments/name/files-check/files-check") or {}
            return deployment if deployment.get("tags") == ["orchestrator", *tags] else {}

        return wait_until(found, PATIENCE) or {}

    with prefect_at(app.settings):
        start(app)
        assert says()["description"] == "See whether the files are there."
        app.health.report("shelf", ConnectionState.DENIED, "the key has expired: make a new one")
        with get_client(sync_client=True) as client:
            ConnectionNotices(app, client).catch_up()
            deployment = client.read_deployment_by_name("files-check/files-check")
            mine = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
            assert client.read_flow_runs(deployment_filter=mine), "dropped"
        told = says("connection-denied")
        assert told["description"].startswith("**Connection `shelf` refuses its credential since ")
        assert told["description"].endswith("\n\nSee whether the files are there.")
        start(app)
        assert says("connection-denied") == told, "a worker that starts meanwhile leaves it alone"
        with showing(app):
            app.health.report("shelf", ConnectionState.WORKING, "")
            assert says()["description"] == "See whether the files are there."
    app.record.store.close()


def test_a_schedule_made_in_prefect_whose_runs_can_only_fail_is_told_of_before(sandbox: Sandbox) -> None:
    alarm = sandbox.ask_prefect("GET", "/deployments/name/alarm/alarm")
    schedules = f"/deployments/{alarm['id']}/schedules"
    daily = {"schedule": {"cron": "0 3 * * *"}, "active": True}

    def says(told: bool) -> bool:
        now = sandbox.ask_prefect("GET", f"/deployments/{alarm['id']}") or {"description": ""}
        begins = now["description"].startswith("**A schedule that was made in Prefect has no input that fits")
        return begins if told else now["description"] == alarm["description"]

    fitting = {**daily, "parameters": {"request": {"title": "Good morning"}}}
    (kept,) = wait_until(lambda: sandbox.ask_prefect("POST", schedules, [fitting]), PATIENCE)
    (made,) = wait_until(lambda: sandbox.ask_prefect("POST", schedules, [daily]), PATIENCE)
    assert wait_until(lambda: says(told=True), PATIENCE)
    wait_until(lambda: sandbox.ask_prefect("DELETE", f"{schedules}/{made['id']}") is not None, PATIENCE)
    assert wait_until(lambda: says(told=False), PATIENCE)
    wait_until(lambda: sandbox.ask_prefect("DELETE", f"{schedules}/{kept['id']}") is not None, PATIENCE)
