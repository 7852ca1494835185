"""Runs that Prefect starts, through a real Prefect server and a real worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from flows.lost_download import CLOSE
from orchestrator.bootstrap import Application
from orchestrator.kernel.runs import Run, RunState
from orchestrator.record.trail import Actor
from orchestrator.sandbox.shop import ONE_PURCHASE, OTHER_CASE, REFUNDED, THREE_PURCHASES
from orchestrator.sandbox.systems import STRANGER, Sandbox, SandboxError, wait_until
from tests.support.deep import cases
from tests.support.prefect_operator import (
    GONE,
    PATIENCE,
    chain_of,
    count_mails,
    flow_run_ended,
    flow_run_suspended,
    pid_of_owner,
    press_run,
    press_run_and_wait_for_its_first_step,
    retry,
    run_of,
    set_state,
    shop_held,
    shown_as,
    task_titles,
)

# Prefect's server on SQLite answers late, or with 503, while its own requests wait for each other.
pytestmark = pytest.mark.flaky(reruns=2)


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


def test_input_that_does_not_fit_is_refused_and_no_run_starts(sandbox: Sandbox, app: Application) -> None:
    with pytest.raises(SandboxError, match="'email' is a required property"):
        press_run(sandbox, product="dress")
    flow_run_id = press_run(sandbox, email="not an address")
    assert "email is not written as it must be" in flow_run_ended(sandbox, flow_run_id)["state"]["message"]
    assert app.runs.of_prefect(flow_run_id) is None


def test_run_from_the_command_line_is_shown_under_its_deployment_and_prefect_sees_a_reference_alone(
    sandbox: Sandbox, app: Application
) -> None:
    called = sandbox.run("run", "lost-download", "--email", ONE_PURCHASE, "--json")
    assert called.returncode == 0, called.stderr
    with app.record.store.read() as tx:
        run = app.runs.get(tx, json.loads(called.stdout)["run"])
    assert run.state is RunState.DONE
    flow_run = flow_run_ended(sandbox, shown_as(app, run))
    deployment = sandbox.ask_prefect("GET", "/deployments/name/lost-download/lost-download")
    assert (flow_run["state_name"], flow_run["deployment_id"]) == ("Completed", deployment["id"])
    assert "orchestrator" in flow_run["tags"]
    assert flow_run["parameters"] == {"request": f"run:{run.run_id}"}
    assert chain_of(app, run)[0].actor.name.startswith("operator:")


def test_question_of_a_run_from_the_command_line_is_answered_in_prefect(sandbox: Sandbox, app: Application) -> None:
    called = json.loads(sandbox.run("run", "lost-download", "--email", STRANGER, "--json").stdout)
    assert called["state"] == "RunParked"
    with app.record.store.read() as tx:
        run = app.runs.get(tx, called["run"])
    flow_run_id = shown_as(app, run)
    flow_run_suspended(sandbox, flow_run_id)
    answer = {"run_input": {"decision": CLOSE.label}}
    assert wait_until(lambda: sandbox.ask_prefect("POST", f"/flow_runs/{flow_run_id}/resume", answer), PATIENCE)
    assert flow_run_ended(sandbox, flow_run_id)["state_name"] == "Completed"


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
    ended = flow_run_ended(sandbox, flow_run_id)
    before = chain_of(app, run_of(app, flow_run_id))
    retry(sandbox, flow_run_id)

    def again() -> bool:
        flow_run = sandbox.ask_prefect("GET", f"/flow_runs/{flow_run_id}") or {}
        return flow_run["state_name"] == "Completed" and flow_run["state_id"] != ended["state_id"]

    assert wait_until(again, PATIENCE)
    assert chain_of(app, run_of(app, flow_run_id)) == before


def test_flow_run_of_another_record_fails_and_says_so(sandbox: Sandbox) -> None:
    deployment = sandbox.ask_prefect("GET", "/deployments/name/lost-download/lost-download")
    body = {"parameters": {"request": "run:r-of-another-record"}, "enforce_parameter_schema": False}
    path = f"/deployments/{deployment['id']}/create_flow_run"
    foreign = wait_until(lambda: sandbox.ask_prefect("POST", path, body), PATIENCE)
    ended = flow_run_ended(sandbox, foreign["id"])
    assert (ended["state_name"], "no run r-of-another-record" in ended["state"]["message"]) == ("Failed", True)


def test_cancel_in_prefect_stops_a_run_before_its_next_step(sandbox: Sandbox, app: Application) -> None:
    with shop_held(sandbox):
        flow_run_id = press_run_and_wait_for_its_first_step(sandbox, app, email=ONE_PURCHASE)
        set_state(sandbox, flow_run_id, "CANCELLING")
        assert wait_until(lambda: run_of(app, flow_run_id).cancelled_by, PATIENCE)
    assert flow_run_ended(sandbox, flow_run_id)["state_name"] == "Cancelled"
    assert wait_until(lambda: run_of(app, flow_run_id).state is RunState.CANCELLED, PATIENCE)
    kinds = [event.kind for event in chain_of(app, run_of(app, flow_run_id))]
    assert kinds[-1] == "run.cancelled"
    assert "effect.intent" not in kinds


def test_parked_run_is_cancelled_in_prefect_or_here_and_shown_so_there(sandbox: Sandbox, app: Application) -> None:
    there, here = (press_run(sandbox, email=STRANGER) for _ in range(2))
    for flow_run_id in (there, here):
        flow_run_suspended(sandbox, flow_run_id)
    set_state(sandbox, there, "CANCELLED")
    assert wait_until(lambda: run_of(app, there).state is RunState.CANCELLED, PATIENCE)
    assert sandbox.run("runs", "cancel", run_of(app, here).run_id).stdout == "Cancelled.\n"

    def cancelled() -> bool:
        return flow_run_ended(sandbox, here)["state_name"] == "Cancelled"

    assert wait_until(cancelled, PATIENCE)


def test_retry_of_a_run_that_is_under_way_executes_it_once(sandbox: Sandbox, app: Application) -> None:
    with shop_held(sandbox):
        flow_run_id = press_run_and_wait_for_its_first_step(sandbox, app, email=ONE_PURCHASE)
        retry(sandbox, flow_run_id)
    assert flow_run_ended(sandbox, flow_run_id)["state_name"] == "Completed"
    assert run_of(app, flow_run_id).state is RunState.DONE
    assert count_mails(sandbox, app, flow_run_id, ONE_PURCHASE) == 1


def test_worker_that_slept_leaves_the_end_to_the_one_that_took_over(sandbox: Sandbox, app: Application) -> None:
    with shop_held(sandbox):
        flow_run_id = press_run_and_wait_for_its_first_step(sandbox, app, email=ONE_PURCHASE)
        sleeper = pid_of_owner(app, flow_run_id)
        os.kill(sleeper, signal.SIGSTOP)
    try:
        assert flow_run_ended(sandbox, flow_run_id)["state_name"] == "Completed"
    finally:
        os.kill(sleeper, signal.SIGCONT)
    assert wait_until(lambda: f"Flow run {flow_run_id} is not executed here" in sandbox.log("worker"), PATIENCE)
    assert flow_run_ended(sandbox, flow_run_id)["state_name"] == "Completed"
    assert run_of(app, flow_run_id).state is RunState.DONE
    assert count_mails(sandbox, app, flow_run_id, ONE_PURCHASE) == 1


def run_for(app: Application, process: str, customer: str) -> Run | None:
    with app.record.store.read() as tx:
        subject_ref = app.record.vault.find(tx, customer)
    runs = app.runs.listed(subject_ref=subject_ref, limit=10) if subject_ref else []
    return next((run for run in runs if run.process == process and run.state is RunState.DONE), None)


def test_mail_is_answered_while_prefect_is_away_and_its_run_is_shown_when_it_is_back(
    sandbox: Sandbox, app: Application, prefect: list[subprocess.Popen[bytes]]
) -> None:
    with shop_held(sandbox):
        under_way = press_run_and_wait_for_its_first_step(sandbox, app, email=REFUNDED)
        prefect[-1].kill()
        prefect[-1].wait(PATIENCE)
    sandbox.write_mail(OTHER_CASE, "Lost", "I lost the link to my linen dress pattern. Could you send it again?")
    reply = wait_until(lambda: sandbox.newest_mail(OTHER_CASE), PATIENCE)
    assert reply is not None
    assert reply["Subject"] == "Your download"
    prefect.append(sandbox.start_prefect())

    run = wait_until(lambda: run_for(app, "lost-download", OTHER_CASE), PATIENCE)
    flow_run_id = shown_as(app, run)
    flow_run = flow_run_ended(sandbox, flow_run_id)
    assert (flow_run["name"], flow_run["state_name"]) == (run.run_id, "Completed")
    assert f"case:{run.case_id}" in flow_run["tags"]
    deployment = sandbox.ask_prefect("GET", "/deployments/name/lost-download/lost-download")
    assert flow_run["deployment_id"] == deployment["id"]
    by_run = {"artifacts": {"flow_run_id": {"any_": [flow_run_id]}}}
    tables = wait_until(lambda: sandbox.ask_prefect("POST", "/artifacts/filter", by_run), PATIENCE)
    assert "Send the mail" in str(tables[0]["data"])
    assert flow_run_ended(sandbox, under_way)["state_name"] == "Completed"
    assert run_of(app, under_way).state is RunState.DONE
    with app.record.store.read() as tx:  # it could not be shown, and kept no other run from it
        assert app.runs.get(tx, GONE).prefect_run_id is None


def test_no_private_value_reaches_prefect_by_a_triggered_run(sandbox: Sandbox) -> None:
    runs = sandbox.ask_prefect("POST", "/flow_runs/filter", {"limit": 200})
    logs = sandbox.ask_prefect("POST", "/logs/filter", {"limit": 200})
    triggered = [run for run in runs if str(run["parameters"].get("request", "")).startswith("run:")]
    told = repr(triggered) + repr([line["message"] for line in logs])
    assert triggered
    assert all(secret not in told for secret in (ONE_PURCHASE, THREE_PURCHASES, STRANGER, "X-Amz-Signature"))


@pytest.mark.parametrize("kill", range(cases(1, 20)))
def test_what_killed_workers_left_is_finished_once_and_shown_as_it_is(
    sandbox: Sandbox, app: Application, workers: list[subprocess.Popen[bytes]], kill: int
) -> None:
    parked = press_run(sandbox, email=STRANGER)
    flow_run_suspended(sandbox, parked)
    with shop_held(sandbox):
        under_way = press_run_and_wait_for_its_first_step(sandbox, app, email=ONE_PURCHASE)
        for worker in workers:
            worker.kill()
            worker.wait(PATIENCE)
    pending = press_run(sandbox, email=ONE_PURCHASE)
    set_state(sandbox, pending, "PENDING", force=True)  # as another kind of worker leaves it that dies
    set_state(sandbox, parked, "CANCELLED")
    workers[:] = [sandbox.start_worker()]
    assert wait_until(lambda: run_of(app, parked).state is RunState.CANCELLED, PATIENCE)
    for flow_run_id in (under_way, pending):
        assert flow_run_ended(sandbox, flow_run_id)["state_name"] == "Completed"
        assert run_of(app, flow_run_id).state is RunState.DONE
        chain_of(app, run_of(app, flow_run_id))
        assert count_mails(sandbox, app, flow_run_id, ONE_PURCHASE) == 1


def test_worker_that_is_told_to_stop_lets_its_run_go_to_the_next_one(
    sandbox: Sandbox, app: Application, workers: list[subprocess.Popen[bytes]]
) -> None:
    with shop_held(sandbox):
        flow_run_id = press_run_and_wait_for_its_first_step(sandbox, app, email=ONE_PURCHASE)
        workers[0].send_signal(signal.SIGTERM)
    assert workers[0].wait(PATIENCE) == 0
    run = run_of(app, flow_run_id)
    assert (run.state, run.postponed) == (RunState.READY, 0)
    assert [event.kind for event in chain_of(app, run)][-2:] == ["step.answered", "run.postponed"]
