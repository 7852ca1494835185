"""Runs that Prefect starts, through a real Prefect server and a real worker."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.bootstrap import Application
from orchestrator.capabilities import Decision
from orchestrator.kernel.runs import Run, RunState
from orchestrator.record.trail import Actor, Event
from orchestrator.record.verify import verify
from orchestrator.sandbox.shop import ONE_PURCHASE, OTHER_CASE, THREE_PURCHASES
from orchestrator.sandbox.systems import STRANGER, Sandbox, SandboxError, wait_until

PATIENCE = 60
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
SCHEDULED = "tom.okafor@example.org"


@pytest.fixture(scope="module")
def prefect() -> list[subprocess.Popen[bytes]]:
    """The Prefect servers started, the present one last."""
    return []


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory, prefect: list[subprocess.Popen[bytes]]) -> Iterator[Sandbox]:
    data = tmp_path_factory.mktemp("sandbox")
    config = data / "config.toml"
    config.write_text(
        Path("config/sandbox.toml").read_text()
        + f"""
[processes.lost-download.schedule]
every_seconds = 3600
request = {{ email = "{SCHEDULED}", product = "zippers" }}
"""
    )
    with Sandbox(data, config, prefect_port=0) as started:
        started.start_systems()
        prefect.append(started.start_prefect())
        started.start_worker()
        started.wait_for_prefect()
        started.wait_for_worker()
        yield started


@pytest.fixture(scope="module")
def app(sandbox: Sandbox) -> Application:
    return sandbox.application()


def press_run(sandbox: Sandbox, **form: object) -> str:
    """Start lost-download as the form of the Prefect UI does."""
    deployment = sandbox.ask_prefect("GET", "/deployments/name/lost-download/lost-download")
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


def run_of(app: Application, flow_run_id: str) -> Run:
    run = app.runs.of_prefect(flow_run_id)
    assert run is not None
    return run


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


def test_form_in_prefect_shows_title_description_and_example_of_each_field_and_no_need(sandbox: Sandbox) -> None:
    deployment = sandbox.ask_prefect("GET", "/deployments/name/lost-download/lost-download")
    schema = deployment["parameter_openapi_schema"]
    assert list(schema["properties"]) == ["request"]
    form = schema["definitions"]["LostDownload"]["properties"]
    assert form["email"]["title"] == "Customer's e-mail address"
    assert form["email"]["examples"] == ["mary@example.com"]
    assert all(field["description"] for field in form.values())


def test_run_from_the_form_is_executed_recorded_and_shown_step_by_step(sandbox: Sandbox, app: Application) -> None:
    flow_run_id = press_run(sandbox, email=THREE_PURCHASES, product="the raglan thing")
    assert flow_run_ended(sandbox, flow_run_id)["state_name"] == "Completed"
    run = run_of(app, flow_run_id)
    assert run.state is RunState.DONE
    events = chain_of(app, run)
    assert events[0].actor == Actor(name="operator", auth="unattributed")
    assert [event.kind for event in events][-2:] == ["effect.outcome", "run.finished"]
    assert task_titles(sandbox, flow_run_id, 4) == [
        "Look up what the customer bought",
        "Check that the file is there",
        "Issue a fresh download link",
        "Send the mail",
    ]


def test_input_that_does_not_fit_is_refused_before_a_run_starts(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match=r"request\.email"):
        press_run(sandbox, email="not an address")


def test_open_question_parks_the_run_visibly_and_its_answer_finishes_it(sandbox: Sandbox, app: Application) -> None:
    flow_run_id = press_run(sandbox, email=STRANGER)
    parked = flow_run_ended(sandbox, flow_run_id)
    assert parked["state_name"] == "Parked"
    assert "orchestrator decisions show" in parked["state"]["message"]
    question = next(q for q in app.people.open_questions() if q.run_id == run_of(app, flow_run_id).run_id)
    decision = Decision(option="bought-as", text=ONE_PURCHASE)
    app.people.answer(question.question_id, decision, Actor(name="operator:ann", auth="test"))

    def completed() -> bool:
        return flow_run_ended(sandbox, flow_run_id)["state_name"] == "Completed"

    assert wait_until(completed, PATIENCE)
    assert [e.actor.name for e in chain_of(app, run_of(app, flow_run_id)) if e.kind == "decision.made"] == [
        "operator:ann"
    ]


def test_run_from_the_command_line_is_recorded_alike_and_prefect_sees_a_reference_alone(
    sandbox: Sandbox, app: Application
) -> None:
    called = sandbox.run("run", "lost-download", "--email", ONE_PURCHASE)
    assert called.returncode == 0, called.stderr
    run = app.runs.listed(state=RunState.DONE, limit=1)[0]
    flow_run = flow_run_ended(sandbox, str(run.prefect_run_id))
    assert flow_run["state_name"] == "Completed"
    assert flow_run["parameters"] == {"request": f"run:{run.run_id}"}
    assert chain_of(app, run)[0].actor.name.startswith("operator:")


def test_scheduled_run_is_executed_and_recorded_as_such(sandbox: Sandbox, app: Application) -> None:
    def scheduled_run() -> str:
        body = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "sort": "EXPECTED_START_TIME_ASC"}
        planned = sandbox.ask_prefect("POST", "/flow_runs/filter", body) or []
        return next((found["id"] for found in planned if found["auto_scheduled"]), "")

    flow_run_id = wait_until(scheduled_run, PATIENCE)
    retry(sandbox, flow_run_id)
    assert flow_run_ended(sandbox, flow_run_id)["state_name"] == "Completed"
    run = run_of(app, flow_run_id)
    assert chain_of(app, run)[0].actor == Actor(name="schedule", auth="prefect schedule")


def test_retry_in_prefect_of_a_finished_run_repeats_nothing(sandbox: Sandbox, app: Application) -> None:
    flow_run_id = press_run(sandbox, email=ONE_PURCHASE)
    flow_run_ended(sandbox, flow_run_id)
    before = chain_of(app, run_of(app, flow_run_id))
    retry(sandbox, flow_run_id)

    def again() -> bool:
        flow_run = sandbox.ask_prefect("GET", f"/flow_runs/{flow_run_id}") or {}
        return flow_run.get("run_count") == 2 and flow_run["state_name"] == "Completed"

    assert wait_until(again, PATIENCE)
    assert chain_of(app, run_of(app, flow_run_id)) == before


def test_retry_in_prefect_lets_a_parked_run_go_on(sandbox: Sandbox, app: Application) -> None:
    flow_run_id = press_run(sandbox, email="nobody@example.com")
    flow_run_ended(sandbox, flow_run_id)
    retry(sandbox, flow_run_id)

    def resumed() -> bool:
        kinds = [event.kind for event in chain_of(app, run_of(app, flow_run_id))]
        return "run.resumed" in kinds and kinds[-1] == "run.parked"

    assert wait_until(resumed, PATIENCE)


def run_for(app: Application, process: str, customer: str) -> Run | None:
    with app.record.store.read() as tx:
        subject_ref = app.record.vault.find(tx, customer)
    runs = app.runs.listed(subject_ref=subject_ref, limit=10) if subject_ref else []
    return next((run for run in runs if run.process == process and run.state is RunState.DONE), None)


def test_mail_is_answered_while_prefect_is_away_and_its_run_is_shown_when_it_is_back(
    sandbox: Sandbox, app: Application, prefect: list[subprocess.Popen[bytes]]
) -> None:
    prefect[-1].terminate()
    prefect[-1].wait(PATIENCE)
    sandbox.write_mail(OTHER_CASE, "Lost", "I lost the link to my linen dress pattern. Could you send it again?")
    reply = wait_until(lambda: sandbox.newest_mail(OTHER_CASE), PATIENCE)
    assert reply is not None
    assert reply["Subject"] == "Your download"
    prefect.append(sandbox.start_prefect())

    def shown() -> str | None:
        run = run_for(app, "lost-download", OTHER_CASE)
        return run.prefect_run_id if run else None

    flow_run_id = wait_until(shown, PATIENCE)
    run = run_of(app, flow_run_id)
    flow_run = flow_run_ended(sandbox, flow_run_id)
    assert (flow_run["name"], flow_run["state_name"]) == (run.run_id, "Completed")
    assert f"case:{run.case_id}" in flow_run["tags"]
    deployment = sandbox.ask_prefect("GET", "/deployments/name/lost-download/lost-download")
    assert flow_run["deployment_id"] == deployment["id"]
    by_run = {"artifacts": {"flow_run_id": {"any_": [flow_run_id]}}}
    tables = wait_until(lambda: sandbox.ask_prefect("POST", "/artifacts/filter", by_run), PATIENCE)
    assert "Send the mail" in str(tables[0]["data"])


def test_no_private_value_reaches_prefect_by_a_triggered_run(sandbox: Sandbox) -> None:
    runs = sandbox.ask_prefect("POST", "/flow_runs/filter", {"limit": 200})
    logs = sandbox.ask_prefect("POST", "/logs/filter", {"limit": 200})
    triggered = [run for run in runs if str(run["parameters"].get("request", "")).startswith("run:")]
    told = repr(triggered) + repr([line["message"] for line in logs])
    assert triggered
    assert all(secret not in told for secret in (ONE_PURCHASE, THREE_PURCHASES, STRANGER, "X-Amz-Signature"))


def test_worker_stops_at_sigterm(sandbox: Sandbox) -> None:
    worker = sandbox.start_worker()
    assert wait_until(lambda: sandbox.log("worker").count("started!") == 2, PATIENCE)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0
