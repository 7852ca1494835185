"""Questions answered in Prefect, through a real Prefect server and a real worker."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from pydantic import SecretStr

from flows.lost_download import AGAIN, ANSWER, BOUGHT_AS, CLOSE
from orchestrator.bootstrap import Application
from orchestrator.builtin.people import DEADLINE, OpenQuestion
from orchestrator.capabilities import Decision
from orchestrator.errors import RunParked
from orchestrator.kernel.runs import Run, RunState
from orchestrator.prefect_lane.auth import auth_string, headers, left_open, made_in, refused
from orchestrator.prefect_lane.claims import show_again
from orchestrator.prefect_lane.form import FILLED_IN, Form
from orchestrator.prefect_lane.reconciliation import heal
from orchestrator.prefect_lane.server import POLICY
from orchestrator.record.trail import Actor, Event
from orchestrator.record.verify import verify
from orchestrator.sandbox.shop import ONE_PURCHASE
from orchestrator.sandbox.systems import STRANGER, Sandbox, SandboxError, wait_until
from tests.support.browser import tried_by_a_page

PATIENCE = 180
"""Prefect's SQLite may stand still for a minute, and more, when its requests wait for each other's connections."""
CLERK = Actor(name="operator:ann", auth="test")
NOBODY = "nobody.at.all@example.com"

# Prefect's server on SQLite answers late, or with 503, while its own requests wait for each other.
pytestmark = pytest.mark.flaky(reruns=2)


class Window:
    """Prefect as an operator sees it, and our record behind it."""

    def __init__(self, sandbox: Sandbox, data: Path) -> None:
        self.sandbox = sandbox
        self.app = sandbox.application()
        self.database = data / "prefect" / "prefect.db"

    def press_run(self, email: str) -> str:
        """Start lost-download as the form of the Prefect UI does."""
        deployment = self.ask("GET", "/deployments/name/lost-download/lost-download")
        body = {"parameters": {"request": {"email": email}}}
        return str(self.ask("POST", f"/deployments/{deployment['id']}/create_flow_run", body)["id"])

    def press_retry(self, flow_run_id: str) -> None:
        body = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
        self.ask("POST", f"/flow_runs/{flow_run_id}/set_state", body)

    def press_resume(self, flow_run_id: str, **filled_in: str) -> Any:
        """Submit what was filled in under the button *Resume*."""
        return self.ask("POST", f"/flow_runs/{flow_run_id}/resume", {"run_input": filled_in})

    def state(self, flow_run_id: str, name: str, when: Callable[[Any], bool] = lambda state: True) -> Any:
        """Wait for a state of a flow run, and return it."""

        def found() -> Any:
            state = (self.sandbox.ask_prefect("GET", f"/flow_runs/{flow_run_id}") or {}).get("state") or {}
            return state if state.get("name") == name and when(state) else None

        state = wait_until(found, PATIENCE)
        assert state, f"flow run {flow_run_id} has not become {name}"
        return state

    def fill_in(self, flow_run_id: str, key: str, value: str) -> None:
        """Leave an answer with a flow run, as somebody does who is a moment too late."""

        def there() -> bool:
            if key not in self.inputs(flow_run_id):
                self.sandbox.ask_prefect("POST", f"/flow_runs/{flow_run_id}/input", {"key": key, "value": value})
            return key in self.inputs(flow_run_id)

        assert wait_until(there, PATIENCE)

    def inputs(self, flow_run_id: str) -> dict[str, str]:
        found = self.ask("POST", f"/flow_runs/{flow_run_id}/input/filter", {"prefix": "", "limit": 50})
        return {each["key"]: each["value"] for each in found or []}

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call Prefect's API, again while its database is busy."""
        given: list[Any] = []

        def answered() -> bool:
            answer = self.sandbox.ask_prefect(method, path, body)
            given[:] = [answer]
            return answer is not None

        assert wait_until(answered, PATIENCE)
        return given[0]

    def waiting(self, flow_run_id: str) -> OpenQuestion:
        """Return the question that a flow run waits with."""
        self.state(flow_run_id, "Suspended")
        waiting = self.app.people.waiting_of(self.run(flow_run_id).run_id)
        assert waiting is not None
        return waiting

    def run(self, flow_run_id: str) -> Run:
        found = wait_until(lambda: self.app.runs.of_prefect(flow_run_id), PATIENCE)
        assert found is not None
        return found

    def chain(self, flow_run_id: str) -> list[Event]:
        run_id = self.run(flow_run_id).run_id
        with self.app.record.store.read() as tx:
            assert not verify(tx, run_id).breaches
            return self.app.record.trail.chain(tx, run_id)

    def made(self, flow_run_id: str) -> list[Event]:
        return [event for event in self.chain(flow_run_id) if event.kind == "decision.made"]

    def told(self) -> str:
        """Return everything that stands in Prefect's database."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return repr([row for table in tables for row in database.execute(f'SELECT * FROM "{table}"')])


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Window]:
    data = tmp_path_factory.mktemp("sandbox")
    with Sandbox(data, Path("config/sandbox.toml"), prefect_port=0) as started:
        started.start_systems()
        started.start_prefect()
        started.start_worker()
        started.wait_for_prefect()
        started.wait_for_worker()
        yield Window(started, data)


@pytest.fixture(scope="module")
def by_mail(window: Window) -> str:
    """The flow run of a run that a stranger's mail started."""
    window.sandbox.write_mail(STRANGER, "Lost", "I lost the link to my linen dress pattern. Please send it again!")

    def shown() -> str | None:
        runs = window.app.runs.listed(state=RunState.PARKED, limit=5)
        return next((run.prefect_run_id for run in runs if run.process == "lost-download"), None)

    flow_run_id = wait_until(shown, PATIENCE)
    assert flow_run_id is not None
    return str(flow_run_id)


@pytest.fixture(scope="module")
def by_hand(window: Window) -> str:
    """The flow run of a run that an operator started in Prefect, waiting for an answer."""
    flow_run_id = window.press_run(NOBODY)
    window.state(flow_run_id, "Suspended")
    return flow_run_id


def test_a_run_that_a_mail_started_waits_in_prefect_with_its_form(window: Window, by_mail: str) -> None:
    waiting = window.waiting(by_mail)
    form, inputs = Form(waiting), window.inputs(by_mail)
    state = window.state(by_mail, "Suspended")
    assert set(inputs) == {form.key("schema"), form.key("description")}
    assert set(inputs) < set(state["state_details"]["run_input_keyset"].values())
    assert all(option.label in inputs[form.key("description")] for option in waiting.question.options)
    logs = {"logs": {"flow_run_id": {"any_": [by_mail]}}, "limit": 200}
    told = [line["message"] for line in window.ask("POST", "/logs/filter", logs)]
    assert told[:2] == ["Taken in", "1. Look up what the customer bought (shop): answered"]
    assert told[-1] == state["message"]


def test_a_form_whose_address_is_none_fails_with_a_sentence_and_blanks_around_one_are_stripped(window: Window) -> None:
    told = window.state(window.press_run("mary"), "Failed")["message"]
    said = "email is not written as it must be; an example: mary@example.com"
    assert told == f"the input of process lost-download does not fit: {said}"
    blanks = window.press_run("  blank@example.com ")
    window.app.people.answer(window.waiting(blanks).question_id, Decision(option=CLOSE.key), CLERK)
    window.state(blanks, "Completed")


def test_what_does_not_fit_is_refused_and_nothing_goes_on(window: Window, by_mail: str) -> None:
    before = window.chain(by_mail)
    refusals = [window.press_resume(by_mail, decision=ANSWER.label), window.press_resume(by_mail, decision="Perhaps")]
    assert [(refused["status"], refused["details"]["reason"].partition(".")[0]) for refused in refusals] == [
        ("REJECT", "Reason: Validation failed"),
        ("REJECT", "Reason: Validation failed for field 'decision'"),
    ]
    assert "'text' is a required property" in refusals[0]["details"]["reason"]
    assert window.chain(by_mail) == before
    assert window.waiting(by_mail)


def test_an_answer_in_prefect_finishes_the_run_once_and_is_deleted_there(window: Window, by_mail: str) -> None:
    assert STRANGER not in window.told()
    accepted = window.press_resume(by_mail, decision=BOUGHT_AS.label, text=ONE_PURCHASE)
    assert accepted["status"] == "ACCEPT"
    window.state(by_mail, "Completed")
    reply = wait_until(lambda: window.sandbox.newest_mail(ONE_PURCHASE), PATIENCE)
    assert reply is not None
    assert reply["Subject"] == "Your download"
    (made,) = window.made(by_mail)
    assert (made.actor, made.data["answer"]["option"]) == (FILLED_IN, BOUGHT_AS.key)
    assert made.data["screen"].startswith("sha256:")
    sent = [event for event in window.chain(by_mail) if event.context.operation == "send"]
    assert [event.kind for event in sent] == ["effect.intent", "effect.attempt", "effect.outcome"] * 2
    assert window.inputs(by_mail) == {}
    told = window.told()
    assert window.run(by_mail).run_id in told
    assert [secret for secret in (STRANGER, ONE_PURCHASE, "X-Amz-Signature") if secret in told] == []


def test_a_run_from_the_form_waits_likewise_and_retry_asks_again(window: Window, by_hand: str) -> None:
    asked = window.waiting(by_hand)
    suspended = window.state(by_hand, "Suspended")
    window.press_retry(by_hand)
    window.state(by_hand, "Suspended", lambda state: state["id"] != suspended["id"])
    assert window.waiting(by_hand).question_id == asked.question_id
    assert "run.resumed" in [event.kind for event in window.chain(by_hand)]
    assert window.made(by_hand) == []


def test_a_form_that_prefect_was_too_busy_for_is_shown_by_the_mirror(window: Window, by_hand: str) -> None:
    failed = {"state": {"type": "FAILED", "name": "Parked"}, "force": True}
    window.ask("POST", f"/flow_runs/{by_hand}/set_state", failed)
    show_again(window.app, window.run(by_hand).run_id)
    assert window.waiting(by_hand)


def test_a_passed_deadline_takes_its_option_and_prefect_shows_the_next_question(window: Window, by_hand: str) -> None:
    asked = window.waiting(by_hand)
    late = at(window, timedelta(hours=5))
    assert late.people.pass_deadlines() == 1
    with suppress(RunParked):
        late.kernel.execute(late.definition("lost-download"), asked.run_id)
    asks_again = late.people.waiting_of(asked.run_id)
    assert asks_again is not None
    assert asks_again.question_id != asked.question_id
    key = Form(asks_again).key("schema")
    window.state(by_hand, "Suspended", lambda state: state["state_details"]["run_input_keyset"]["schema"] == key)
    assert [(event.actor, event.data["answer"]["option"]) for event in window.made(by_hand)] == [(DEADLINE, AGAIN.key)]
    assert at(window, timedelta(hours=10)).people.pass_deadlines() == 1
    window.state(by_hand, "Suspended", lambda state: "OVERDUE since" in state["message"])


def at(window: Window, later: timedelta) -> Application:
    """Return the application as it will be later."""
    return Application(window.app.settings, clock=lambda: datetime.now(UTC) + later)


def test_an_answer_given_elsewhere_ends_the_wait_in_prefect_and_a_second_one_is_refused(
    window: Window, by_hand: str
) -> None:
    asked = window.waiting(by_hand)
    window.app.people.answer(asked.question_id, Decision(option=CLOSE.key), CLERK)
    window.state(by_hand, "Completed")
    assert wait_until(lambda: window.inputs(by_hand) == {}, PATIENCE)
    assert window.press_resume(by_hand, decision=CLOSE.label)["status"] == "ABORT"
    before = window.chain(by_hand)
    window.fill_in(by_hand, Form(asked).key("response"), f'{{"decision": "{AGAIN.label}"}}')
    window.press_retry(by_hand)
    logs = {"logs": {"flow_run_id": {"any_": [by_hand]}}, "limit": 200}

    def refused() -> bool:
        return "the first answer counts" in repr(window.ask("POST", "/logs/filter", logs))

    assert wait_until(refused, PATIENCE)
    window.state(by_hand, "Completed")
    assert (window.inputs(by_hand), window.chain(by_hand)) == ({}, before)


def test_a_waiting_run_that_is_cancelled_in_prefect_asks_nobody_any_more(window: Window) -> None:
    flow_run_id = window.press_run("somebody.else@example.com")
    asked = window.waiting(flow_run_id)
    window.ask("POST", f"/flow_runs/{flow_run_id}/set_state", {"state": {"type": "CANCELLING"}})
    assert wait_until(lambda: window.run(flow_run_id).state is RunState.CANCELLED, PATIENCE)
    assert wait_until(lambda: window.inputs(flow_run_id) == {}, PATIENCE)
    assert window.state(flow_run_id, "Cancelled")
    assert asked.question_id not in [waiting.question_id for waiting in window.app.people.open_questions()]


def test_a_run_that_is_deleted_in_prefect_while_it_waits_is_shown_again(window: Window) -> None:
    deleted = window.press_run("deleted@example.com")
    asked = window.waiting(deleted)

    def gone() -> bool:
        with suppress(SandboxError):  # it is gone already
            window.sandbox.ask_prefect("DELETE", f"/flow_runs/{deleted}")
        return bool(window.ask("POST", "/flow_runs/filter", {"flow_runs": {"id": {"any_": [deleted]}}}) == [])

    assert wait_until(gone, PATIENCE)

    def healed() -> bool:
        settings = window.app.settings
        client = SyncPrefectClient(settings.prefect.api_url, auth_string=auth_string(settings))
        with suppress(httpx.HTTPError), client:
            heal(window.app, client)
        return window.app.runs.of_prefect(deleted) is None

    assert wait_until(healed, PATIENCE)
    again = wait_until(lambda: shown_as(window.app, asked.run_id), PATIENCE)
    assert window.waiting(str(again)).question_id == asked.question_id


def shown_as(app: Application, run_id: str) -> str | None:
    with app.record.store.read() as tx:
        return app.runs.get(tx, run_id).prefect_run_id


def test_a_page_of_another_origin_reads_nothing_and_changes_nothing(window: Window) -> None:
    asking = window.press_run("typed.into.the.form@example.com")
    question = window.waiting(asking).question_id
    runs = len(window.app.runs.listed(limit=1000))
    known = {name: window.ask("GET", f"/deployments/name/{name}/{name}")["id"] for name in ("lost-download", "alarm")}
    api = f"{window.sandbox.prefect_url}/api"
    started = {"parameters": {"request": {"email": ONE_PURCHASE}}}
    answer = {"run_input": {"decision": ANSWER.label, "text": "Pay again: https://attacker.example"}}
    told = tried_by_a_page(
        [
            ("POST", f"{api}/flow_runs/filter", {}),
            ("GET", f"{api}/flow_runs/{asking}", None),
            ("POST", f"{api}/flow_runs/{asking}/resume", answer),
            ("POST", f"{api}/deployments/{known['lost-download']}/create_flow_run", started),
            ("DELETE", f"{api}/deployments/{known['alarm']}", None),
        ]
    )
    assert told == [(0, "nothing can be read")] * len(told)
    assert window.ask("GET", f"/deployments/{known['alarm']}")["name"] == "alarm"
    assert window.waiting(asking).question_id == question
    assert window.made(asking) == []
    assert len(window.app.runs.listed(limit=1000)) == runs


@pytest.mark.parametrize(
    "host", ["attacker.example", "127.0.0.1.attacker.example:4200", "attacker.example:80", "", "[::1"]
)
def test_a_call_by_a_foreign_name_gets_nothing_whatever_it_knows(window: Window, host: str) -> None:
    known = headers(auth_string(window.app.settings))
    for path in ("/", "/ui-settings", "/api/health", "/api/admin/version"):
        refused = httpx.get(f"{window.sandbox.prefect_url}{path}", headers={**known, "Host": host}, timeout=PATIENCE)
        assert (refused.status_code, refused.text) == (400, "Invalid host header")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_every_name_of_this_machine_leads_to_prefects_pages_which_ask_no_other_server(
    window: Window, host: str
) -> None:
    settings = httpx.get(f"{window.sandbox.prefect_url}/ui-settings", headers={"Host": f"{host}:9"}, timeout=PATIENCE)
    assert (settings.json()["api_url"], settings.json()["auth"]) == ("/api", "BASIC")
    assert settings.headers["Content-Security-Policy"] == POLICY


def test_the_auth_string_is_made_once_for_its_owner_alone_and_stands_in_no_log_and_no_command(window: Window) -> None:
    file = window.sandbox.data / "prefect" / "auth-string"
    made = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(made) > 40
    assert auth_string(window.app.settings) == made_in(file.parent) == made
    assert [name for name in ("prefect", "worker") if made in window.sandbox.log(name)] == []
    assert [command for command in _commands() if made.encode() in command] == []


def test_check_is_content_with_the_closed_server_and_tells_of_an_auth_string_that_it_refuses(window: Window) -> None:
    settings = window.app.settings
    assert (left_open(settings), refused(settings)) == ([], [])
    wrong = settings.prefect.model_copy(update={"auth_string": SecretStr("operator:another")})
    (told,) = refused(settings.model_copy(update={"prefect": wrong}))
    assert "[prefect] auth_string: Prefect's server refuses it" in told
    assert "another" not in told


def _commands() -> Iterator[bytes]:
    """Return the command line of every process of this machine."""
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            yield command.read_bytes()
