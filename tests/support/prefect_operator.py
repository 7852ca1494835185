"""What people do in the Prefect UI, and what is seen there, on a sandbox of real servers."""

from __future__ import annotations

import imaplib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from sqlalchemy import select, update

from orchestrator.bootstrap import Application
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.runs import Mirror, Opening, Run, RunState
from orchestrator.record.tables import run as run_table
from orchestrator.record.trail import Event
from orchestrator.record.verify import verify
from orchestrator.sandbox.systems import PASSWORD, Sandbox, wait_until
from tests.support.kernel_bench import ANN, Errand, send_one

PATIENCE = 180
"""Prefect's SQLite may stand still for a minute, and more, when its requests wait for each other's connections."""
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
GONE = "r-gone"


def open_run_of_a_process_that_is_gone(app: Application) -> None:
    """Leave a run to be shown that Prefect refuses: it knows no such deployment."""
    gone = Opening(definition=ProcessDefinition("gone", send_one), request=Errand(), run_id=GONE, actor=ANN)
    with app.record.store.write() as tx:
        app.runs.open(tx, gone)
        stopped = {"state": RunState.PARKED, "reason": "it is gone", "mirror": Mirror.DUE}
        tx.execute(update(run_table).where(run_table.c.run_id == GONE).values(stopped))


@contextmanager
def shop_held(sandbox: Sandbox) -> Iterator[None]:
    """Let no query of the shop be answered: a run stands in its first step."""
    with closing(sqlite3.connect(sandbox.data / "shop.db", isolation_level=None)) as shop:
        shop.execute("BEGIN EXCLUSIVE")
        yield


def count_mails(sandbox: Sandbox, app: Application, flow_run_id: str, address: str) -> int:
    """Count the mails of one run in a mailbox: each Message-ID is made of the id of an effect."""
    effects = {event.context.effect_id for event in chain_of(app, run_of(app, flow_run_id)) if event.context.effect_id}
    with imaplib.IMAP4("127.0.0.1", sandbox.mail.imap_port) as imap:
        imap.login(address, PASSWORD)
        imap.select("INBOX", readonly=True)
        found = [imap.uid("SEARCH", "HEADER", "Message-ID", effect)[1][0] or b"" for effect in sorted(effects)]
    return sum(len(numbers.split()) for numbers in found)


def press_run_and_wait_for_its_first_step(sandbox: Sandbox, app: Application, **form: object) -> str:
    flow_run_id = press_run(sandbox, **form)

    def running() -> bool:
        run = app.runs.of_prefect(flow_run_id)
        return run is not None and run.state is RunState.RUNNING

    assert wait_until(running, PATIENCE)
    return flow_run_id


def set_state(sandbox: Sandbox, flow_run_id: str, state_type: str, *, force: bool = False) -> None:
    """Change the state of a flow run, as the buttons of the Prefect UI do."""
    body = {"state": {"type": state_type, "name": state_type.capitalize()}, "force": force}
    assert wait_until(lambda: sandbox.ask_prefect("POST", f"/flow_runs/{flow_run_id}/set_state", body), PATIENCE)


def press_run(sandbox: Sandbox, **form: object) -> str:
    """Start lost-download as the form of the Prefect UI does."""
    known = "/deployments/name/lost-download/lost-download"
    deployment = wait_until(lambda: sandbox.ask_prefect("GET", known), PATIENCE)
    path = f"/deployments/{deployment['id']}/create_flow_run"
    created = wait_until(lambda: sandbox.ask_prefect("POST", path, {"parameters": {"request": form}}), PATIENCE)
    return str(created["id"])


def retry(sandbox: Sandbox, flow_run_id: str) -> None:
    """Make a flow run due again, as *Retry* and *Run now* of the Prefect UI do."""
    body = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
    assert wait_until(lambda: sandbox.ask_prefect("POST", f"/flow_runs/{flow_run_id}/set_state", body), PATIENCE)


def flow_run_ended(sandbox: Sandbox, flow_run_id: str) -> dict[str, Any]:
    def ended() -> dict[str, Any]:
        flow_run = sandbox.ask_prefect("GET", f"/flow_runs/{flow_run_id}") or {}
        return flow_run if flow_run.get("state_type") in FINAL else {}

    found = wait_until(ended, PATIENCE)
    assert found, f"flow run {flow_run_id} has not ended"
    return found


def flow_run_suspended(sandbox: Sandbox, flow_run_id: str) -> None:
    def suspended() -> bool:
        flow_run = sandbox.ask_prefect("GET", f"/flow_runs/{flow_run_id}") or {}
        return bool(flow_run.get("state_name") == "Suspended")

    assert wait_until(suspended, PATIENCE), f"flow run {flow_run_id} is not suspended"


def run_of(app: Application, flow_run_id: str) -> Run:
    run = app.runs.of_prefect(flow_run_id)
    assert run is not None
    return run


def shown_as(app: Application, run: Run) -> str:
    """Return the flow run that shows a run, as soon as there is one."""

    def shown() -> str | None:
        with app.record.store.read() as tx:
            return app.runs.get(tx, run.run_id).prefect_run_id

    return str(wait_until(shown, PATIENCE))


def chain_of(app: Application, run: Run) -> list[Event]:
    with app.record.store.read() as tx:
        assert not verify(tx, run.run_id).breaches
        return app.record.trail.chain(tx, run.run_id)


def task_titles(sandbox: Sandbox, flow_run_id: str, count: int) -> list[str]:
    def shown() -> list[dict[str, Any]]:
        body = {"flow_runs": {"id": {"any_": [flow_run_id]}}, "sort": "EXPECTED_START_TIME_ASC"}
        tasks = sandbox.ask_prefect("POST", "/task_runs/filter", body) or []
        return tasks if len(tasks) == count else []

    return [task["name"] for task in wait_until(shown, PATIENCE) or []]


def pid_of_owner(app: Application, flow_run_id: str) -> int:
    """Return the process that executes a flow run."""
    mine = select(run_table.c.owner).where(run_table.c.prefect_run_id == flow_run_id)
    with app.record.store.read() as tx:
        return int(tx.execute(mine).scalar_one().split("/")[1])
