from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest

from flows.lost_download import ANSWER, BOUGHT_AS, CLOSE
from orchestrator.bootstrap import use
from orchestrator.errors import LeaseLost, RunError, RunParked, Unavailable
from orchestrator.kernel.resolution import open_effects
from orchestrator.kernel.runs import RunState
from orchestrator.ledger.duplicates import LATE, late_chain, report_duplicate
from orchestrator.ledger.states import Cause
from orchestrator.record.heartbeat import WORKER, Heartbeat
from orchestrator.record.trail import Draft
from orchestrator.sandbox.shop import create_shop
from tests.support.app_with_fakes import ANNA, CONFIG, STRANGER, Office
from tests.support.console import Console, Said, command


def test_the_newest_events_are_shown(office: Office, console: Console) -> None:
    run_id = office.serve(ANNA)
    rows = console("audit", "tail", "--json").json
    assert [row["kind"] for row in rows[-2:]] == ["effect.outcome", "run.finished"]
    assert {row["chain_id"] for row in rows} == {run_id}
    assert len(console("audit", "tail", "-n", "3", "--json").json) == 3
    assert "run.finished" in console("audit", "tail").out


def test_a_run_is_shown_and_its_private_values_only_if_asked_for(office: Office, console: Console) -> None:
    run_id = office.serve(ANNA)
    for said in (console("audit", "show", run_id), console("audit", "show", run_id, "--json")):
        assert (said.code, ANNA in said.out) == (0, False)
    opened = console("audit", "show", run_id, "--private", "--json").json
    assert opened[0]["data"]["request"]["email"] == ANNA
    assert ANNA in console("audit", "show", run_id, "--private").out


def test_an_effect_that_happened_twice_is_listed_with_both_receipts(office: Office, console: Console) -> None:
    run_id, record = office.serve(ANNA), office.app.record
    assert "No effect is known" in console("effects", "twice").out
    with record.store.write() as tx:
        outcome = [event for event in record.trail.chain(tx, run_id) if event.kind == "effect.outcome"][-1]
        second = {"outcome": "success", "via": Cause.SUCCEED, "attempt": 2, "answer": {"reference": "<second@shop>"}}
        late = Draft(kind=LATE, context=outcome.context, data=second)
        record.trail.append_alone(tx, late_chain(run_id, 1), late, record.clock())
        report_duplicate(tx, record.trail, late, fence=1, newest_fence=lambda: 1, now=record.clock())
    first, other = console("effects", "twice", "--private", "--json").json
    assert (first["effect_id"], first["attempt"], other["attempt"]) == (outcome.context.effect_id, 1, 2)
    assert first["answer"]["reference"]
    assert other["answer"] == {"reference": "<second@shop>"}
    assert "<second@shop>" in console("effects", "twice").out
    assert first["answer"]["reference"] not in console("effects", "twice").out


def test_a_record_that_verifies_is_exit_code_0_and_one_that_does_not_is_1(office: Office, console: Console) -> None:
    office.serve(ANNA)
    assert console("audit", "verify").code == 0
    assert console("audit", "verify", "--json").json["breaches"] == []
    with office.app.record.store.write() as tx:
        tx.exec_driver_sql("DROP TRIGGER audit_event_no_update")
        tx.exec_driver_sql("UPDATE audit_event SET actor = 'nobody' WHERE chain_seq = 2")
    found = console("audit", "verify", "--json")
    assert (found.code, [breach["chain_seq"] for breach in found.json["breaches"]]) == (1, [2])
    said = console("audit", "verify")
    assert (said.code, "column actor does not say what the body says" in said.out) == (1, True)


def test_a_question_is_listed_shown_and_answered(office: Office, console: Console) -> None:
    run_id, question = office.ask()
    (row,) = console("decisions", "--json").json
    assert (row["question_id"], row["run_id"]) == (question, run_id)
    assert row["options"] == ["again", "bought-as", "answer", "close"]
    assert (row["role"], row["overdue"], row["otherwise"]) == ("support", False, "again")
    assert (row["waiting"], row["due_at"] > row["asked_at"]) == ("0:00:00", True)
    assert STRANGER not in console("decisions").out
    shown = console("decisions", "show", question).out
    assert f"The customer writes from: {STRANGER}" in shown
    assert f"orchestrator decisions answer {question} bought-as --text -\n" in shown
    assert "It asks for: the address on the order\n" in shown
    assert "\nrole: support\n" in shown
    assert "\notherwise: again\n" in shown
    assert console("decisions", "show", question, "--json").json["question"]["known"].startswith("The customer writes")
    assert console("decisions", "answer", question, CLOSE.key).code == 0
    assert console("decisions", "--json").json == []
    assert office.app.kernel.execute(office.app.definition("lost-download"), run_id).outcome == "closed-by-hand"


def test_what_is_shown_as_a_command_sends_no_description_of_an_answer(office: Office, console: Console) -> None:
    _, question = office.ask()
    commands = [
        line.split()[1:] for line in console("decisions", "show", question).out.splitlines() if "answer" in line
    ]
    with_text = [command for command in commands if "--text" in command]
    assert [command[-3:] for command in with_text] == [["bought-as", "--text", "-"], ["answer", "--text", "-"]]
    described = f"({ANSWER.needs_text})"
    said = console("decisions", "answer", question, ANSWER.key, "--text", described)
    assert (said.code, "the description of what to write" in said.err) == (1, True)
    assert len(console("decisions", "--json").json) == 1
    assert office.mailer.sent == []


def test_an_answer_with_what_it_does_not_take_is_refused_before_the_run_goes_on(
    office: Office, console: Console
) -> None:
    run_id, question = office.ask()
    for option, text in ((CLOSE.key, "Dear customer"), (BOUGHT_AS.key, "her other address")):
        said = console("decisions", "answer", question, option, "--text", text)
        assert (said.code, text in said.err) == (1, False)
    assert (office.app.runs.due(limit=10), len(console("decisions", "--json").json)) == ([], 1)
    assert console("runs", "--json").json[0]["run_id"] == run_id


def test_an_answer_that_does_not_fit_is_refused_in_one_line(office: Office, console: Console) -> None:
    _, question = office.ask()
    said = console("decisions", "answer", question, "maybe")
    assert said == Said(1, "", "'maybe' is no option; choose one of: again, bought-as, answer, close\n")
    said = console("decisions", "answer", question, "bought-as")
    assert said == Said(1, "", "option bought-as needs a text: the address on the order\n")
    assert len(console("decisions", "--json").json) == 1


def test_an_effect_that_nobody_can_know_of_is_listed_and_settled(office: Office, console: Console) -> None:
    run_id = office.doubt()
    (row,) = console("effects", "--json").json
    assert (row["run_id"], row["state"], row["operation"]) == (run_id, "needs-decision", "mailer.send")
    assert "needs-decision" in console("effects").out
    said = console("effects", "settle", row["effect_id"], "--happened")
    assert said == Said(0, "Recorded: happened. The worker goes on with the run.\n", "")
    assert office.app.kernel.execute(office.app.definition("lost-download"), run_id).outcome == "links-sent"
    assert len(office.mailer.sent) == 1
    assert open_effects(office.app.record) == []


@pytest.mark.parametrize("flags", [[], ["--happened", "--retry"], ["--retry", "--give-up"]])
def test_an_effect_is_settled_by_exactly_one_word(office: Office, console: Console, flags: list[str]) -> None:
    office.doubt()
    (row,) = console("effects", "--json").json
    said = console("effects", "settle", row["effect_id"], *flags)
    assert said == Said(1, "", "say exactly one of --happened, --retry and --give-up\n")


def test_runs_are_listed_by_state_and_by_customer(office: Office, console: Console) -> None:
    done, (parked, _) = office.serve(ANNA), office.ask()
    assert {row["run_id"] for row in console("runs", "--json").json} == {done, parked}
    (row,) = console("runs", "--state", "parked", "--json").json
    assert row["run_id"] == parked
    (row,) = console("runs", "--customer", ANNA.upper(), "--json").json
    assert row["run_id"] == done
    assert console("runs", "--customer", "nobody@example.com").err.startswith("no run is about a customer")
    shown = console("runs")
    assert ANNA not in shown.out
    assert done in shown.out
    assert console("runs", "--state", "failed", "--json").json == []


def test_a_parked_run_is_resumed(office: Office, console: Console) -> None:
    run_id, _ = office.ask()
    assert console("runs", "resume", run_id).code == 0
    assert office.app.runs.due(limit=5) == [run_id]
    with pytest.raises(RunParked):
        office.app.kernel.execute(office.app.definition("lost-download"), run_id)


def test_several_runs_are_resumed_and_one_that_cannot_be_is_in_no_others_way(office: Office, console: Console) -> None:
    (first, _), over, second = office.ask(), office.serve(ANNA), office.doubt()
    said = console("runs", "resume", first, over, second)
    assert (said.code, len(said.out.splitlines())) == (1, 2)
    assert said.err == f"run {over} is not parked and has not failed; see: orchestrator runs\n"
    assert {run.run_id for run in office.app.runs.listed(state=RunState.READY, limit=5)} == {first, second}


@pytest.mark.parametrize("words", [(), ("r-1", "--held")])
def test_runs_are_resumed_by_name_or_because_they_are_held(
    office: Office, console: Console, words: tuple[str, ...]
) -> None:
    assert console("runs", "resume", *words) == Said(1, "", "name runs, or say --held\n")


def test_all_mails_that_were_held_go_out_on_one_word(tmp_path: Path, console: Console) -> None:
    office = Office(tmp_path, f"{CONFIG}\n[answers]\nper_hour = 1\n")
    use(office.app)
    customers = [f"customer-{number}@example.com" for number in range(3)]
    office.orders.purchases = [
        each.model_copy(update={"email": customer}) for each in office.orders.purchases for customer in customers
    ]
    for customer in customers:
        office.mailbox.deliver(f"From: {customer}\r\nSubject: Lost\r\n\r\nI lost my download.\r\n".encode())
    office.app.intake.take_in(office.app.sources()[0])
    work(office)
    assert len(office.mailer.sent) == 1
    said = console("runs", "resume", "--held")
    assert (said.code, len(said.out.splitlines())) == (0, 2)
    work(office)
    assert sorted(mail.to for mail in office.mailer.sent) == customers
    office.app.record.store.close()


def work(office: Office) -> None:
    """Execute all that is due."""
    while due := office.app.runs.due(limit=9):
        for run_id in due:
            with office.app.record.store.read() as tx:
                process = office.app.runs.get(tx, run_id).process
            with suppress(RunError):
                office.app.kernel.execute(office.app.definition(process), run_id)


def test_mail_for_a_person_is_listed_shown_and_closed(office: Office, console: Console) -> None:
    delivery = office.receive("Hello")
    (row,) = console("inbox", "--state", "for-person", "--json").json
    assert (row["delivery"], row["note"]) == (delivery, "it is not a request that a process serves")
    assert delivery in console("inbox").out
    assert console("inbox", "show", delivery, "--json").json["subject"] == "Hello"
    shown = console("inbox", "show", delivery).out
    assert f"sender: {STRANGER}" in shown
    assert shown.endswith("\nHow are you?\n")
    assert console("inbox", "show", delivery, "--raw").out.startswith(f"From: {STRANGER}")
    assert console("inbox", "close", delivery).code == 0
    assert console("inbox", "--state", "for-person", "--json").json == []


def test_a_run_that_is_postponed_says_that_it_goes_on_by_itself(office: Office, console: Console) -> None:
    run = ("run", "lost-download", "--email", ANNA)
    office.mailer.fail_next(Unavailable("the outbox cannot be reached", no_effect=True))
    said = console(*run)
    (waiting,) = office.app.runs.listed(limit=1)
    assert said.code == 3
    first, second, third = said.out.splitlines()
    assert first == f"Run {waiting.run_id}: the outbox cannot be reached"
    assert second == (
        f"It goes on by itself at {waiting.due_at:%Y-%m-%d %H:%M:%S} UTC, once a worker runs (orchestrator worker). "
        "Do not start it again."
    )
    assert third == f"What happened: orchestrator audit show {waiting.run_id}"
    Heartbeat(office.app.record, WORKER).beat()
    office.mailer.fail_next(Unavailable("the outbox cannot be reached", no_effect=True))
    found = console(*run, "--json")
    assert (found.code, found.json["state"]) == (3, "RunPostponed")
    assert found.json["goes_on"].endswith("UTC, executed by a worker. Do not start it again.")


def test_a_run_that_is_lost_or_interrupted_says_so_too(office: Office, console: Console, tmp_path: Path) -> None:
    lock = tmp_path / "record.db.lock"

    class Locked(Unavailable):
        """The system does not answer, and from then on nothing can be written."""

        def __init__(self) -> None:
            super().__init__("the shop cannot be reached")
            lock.unlink()
            lock.mkdir()

    for error, code, reason in (
        (KeyboardInterrupt, 130, "interrupted"),
        (LeaseLost("another worker has it"), 3, "another worker has it"),
        (Locked, 3, "the record cannot be written now"),
    ):
        office.orders.fail_next(cast("Unavailable", error))
        found = console("run", "lost-download", "--email", ANNA, "--json")
        assert (found.code, found.json["reason"]) == (code, reason)
        assert found.json["goes_on"].startswith("It goes on by itself, ")


def test_a_run_without_prefect_asks_and_its_answer_is_taken(tmp_path: Path) -> None:
    office = Office(tmp_path)
    environment = {
        "ORCHESTRATOR_CONFIG": "config/sandbox.toml",
        "ORCHESTRATOR_STORE__URL": office.app.settings.store.url,
        "ORCHESTRATOR_STORE__KEY_FILE": str(office.app.settings.store.key_file),
        "ORCHESTRATOR_PREFECT__API_URL": office.app.settings.prefect.api_url,
        "ORCHESTRATOR_CONNECTIONS__SHOP__URL": create_shop(tmp_path / "shop.db").url,
    }
    found = command("run", "lost-download", f"--email={STRANGER}", "--product", "dress", "--json", **environment)
    assert (found.code, found.json["state"], found.err) == (4, "RunParked", "")
    (waiting,) = office.app.people.open_questions()
    assert waiting.run_id == found.json["run"]
    said = command("decisions", "answer", waiting.question_id, "close", **environment)
    assert said == Said(0, "Recorded. The worker goes on with the run.\n", "")
    assert office.app.runs.due(limit=5) == [waiting.run_id]
    office.app.record.store.close()
