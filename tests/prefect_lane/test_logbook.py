"""What the page of a mirrored run says: a line a step at its own time, outcome, reason, and no personal data."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import Rejected
from orchestrator.kernel.runs import Run
from orchestrator.prefect_lane.run_logs import course, log_of, outcome
from orchestrator.prefect_lane.states import shown_state
from orchestrator.record.clock import moment
from orchestrator.record.trail import Event
from tests.support.app_with_fakes import ANNA, STRANGER, Office
from tests.support.clock import HandClock

MESSAGE = "the message of the state"


@pytest.fixture
def office(tmp_path: Path, clock: HandClock) -> Iterator[Office]:
    opened = Office(tmp_path, clock=clock)
    yield opened
    opened.app.record.store.close()


def chain(office: Office, run_id: str) -> list[Event]:
    with office.app.record.store.read() as tx:
        return office.app.record.trail.chain(tx, run_id)


def run_of(office: Office, run_id: str) -> Run:
    with office.app.record.store.read() as tx:
        return office.app.runs.get(tx, run_id)


def lines(events: list[Event], after: datetime | None = None) -> list[tuple[int, str]]:
    return [(line["level"], line["message"]) for line in log_of(events, "f", message=MESSAGE, after=after)]


STEPS = [
    (logging.INFO, "Taken in"),
    (logging.INFO, "1. Look up what the customer bought (shop): answered"),
    (logging.INFO, "2. Check that the file is there (files): answered"),
    (logging.INFO, "3. Issue a fresh download link (files): answered"),
]


def test_a_run_has_a_line_a_step_and_one_for_how_it_ended(office: Office) -> None:
    assert lines(chain(office, office.serve(ANNA))) == [
        *STEPS,
        (logging.INFO, "4. Send the mail (outbox): done"),
        (logging.INFO, MESSAGE),
    ]


def test_a_doubt_is_a_warning(office: Office) -> None:
    assert lines(chain(office, office.doubt())) == [
        *STEPS,
        (logging.WARNING, "4. Send the mail (outbox): a person must say whether it happened"),
        (logging.WARNING, MESSAGE),
    ]


def test_a_failure_is_an_error_and_says_why_and_what_to_do(office: Office) -> None:
    office.mailer.fail_next(Rejected("the mailbox does not exist"))
    run_id = office.serve(ANNA)
    assert lines(chain(office, run_id))[-1] == (logging.ERROR, MESSAGE)
    assert shown_state(run_of(office, run_id))["message"] == (
        "Rejected: the mailbox does not exist. Correct the cause, then press Retry, or run: "
        f"orchestrator runs resume {run_id}. What happened: orchestrator audit show {run_id}."
    )


def test_lines_stand_at_the_times_of_their_events(office: Office) -> None:
    events = chain(office, office.serve(ANNA))
    told: list[dict[str, Any]] = log_of(events, "f", message=MESSAGE)
    assert {line["timestamp"] for line in told} <= {event.at for event in events}
    assert {line["flow_run_id"] for line in told} == {"f"}


def test_a_log_goes_on_where_it_ended(office: Office, clock: HandClock) -> None:
    run_id, _ = office.ask()
    before = chain(office, run_id)
    assert lines(before, moment(before[-1].at)) == []
    clock.advance(seconds=5)
    office.app.runs.resume(run_id, before[0].actor)
    clock.advance(seconds=5)
    office.execute(run_id)
    assert lines(chain(office, run_id), moment(before[-1].at))[0] == (logging.INFO, "Goes on")
    assert lines(chain(office, run_id), moment(before[-1].at))[-1] == (logging.WARNING, MESSAGE)


def test_it_is_said_when_a_run_began_and_how_long_it_took(office: Office, clock: HandClock) -> None:
    run_id, _ = office.ask()
    clock.advance(seconds=90.5)
    office.app.runs.resume(run_id, chain(office, run_id)[0].actor)
    office.execute(run_id)
    begun = clock().astimezone(UTC).timestamp() - 90.5
    told = f"Taken in at {datetime.fromtimestamp(begun, UTC):%Y-%m-%d %H:%M:%S} UTC; it took 90.50 s up to here."
    assert course(chain(office, run_id)) == told


def test_an_outcome_is_a_plain_word_and_nothing_else_of_a_result(office: Office) -> None:
    events = chain(office, office.serve(ANNA))
    assert outcome(events) == "links-sent"
    end = events[-1]
    later = Event(**{**vars(end), "kind": "delivery.closed", "data": {}})
    assert (outcome([*events, later]), course([*events, later])) == ("links-sent", course(events))
    for result in (ANNA, {"outcome": ANNA}, {"outcome": "Ann Berg"}, {"products": ["dress"]}, ["sent"], None, 5):
        assert outcome([Event(**{**vars(end), "data": {"result": result}})]) == ""
    assert outcome(chain(office, office.doubt())) == ""


def test_no_log_names_a_customer(office: Office) -> None:
    for run_id in (office.serve(ANNA), office.serve(STRANGER), office.doubt()):
        assert not {ANNA, STRANGER} & set(repr(lines(chain(office, run_id))).split())
        assert "@" not in repr(lines(chain(office, run_id)))
