"""What deployments say of connections that do not work; what Prefect makes of it stands in ``test_prefect_lane``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.bindings.guard import ConnectionState
from orchestrator.prefect_lane.deployment_notices import said_of
from tests.support.app_with_fakes import Office
from tests.support.clock import HandClock

REFUSED = "the password is wrong:\nwrite the right one."
"""A reason as a connector may word it, over two lines."""


@pytest.fixture
def office(tmp_path: Path, clock: HandClock) -> Iterator[Office]:
    office = Office(tmp_path, clock=clock)
    yield office
    office.app.record.store.close()


def said(office: Office, process: str) -> tuple[str, list[str]]:
    found = said_of(office.app, process, office.app.health.ailing())
    return found["description"], found["tags"]


def test_the_processes_that_need_a_refused_connection_say_so_and_no_others(office: Office, clock: HandClock) -> None:
    plain = {name: said(office, name) for name in office.app.processes}
    office.app.health.report("shop", ConnectionState.DENIED, REFUSED)
    notice = (
        f"**Connection `shop` refuses its credential since {clock.now:%Y-%m-%d %H:%M} UTC:** the password is wrong: "
        "write the right one. What needs it waits, and goes on by itself once it works again."
    )
    description, tags = plain["lost-download"]
    assert said(office, "lost-download") == (f"{notice}\n\n{description}", [*tags, "connection-denied"])
    others = office.app.processes.keys() - {"lost-download"}
    assert {name: said(office, name) for name in others} == {name: plain[name] for name in others}
    office.app.health.report("shop", ConnectionState.WORKING, "")
    assert said(office, "lost-download") == plain["lost-download"]


def test_the_process_that_mail_starts_says_that_its_mailbox_does_not_answer(office: Office) -> None:
    office.app.health.report("support", ConnectionState.DOWN, "no answer")
    description, tags = said(office, "support-inbox")
    assert description.startswith("**Connection `support` does not answer since ")
    assert tags == ["orchestrator", "connection-down"]
    assert said(office, "lost-download")[1] == ["orchestrator"]


def test_several_connections_are_told_one_after_the_other(office: Office) -> None:
    for name in ("shop", "outbox", "files"):
        state = ConnectionState.DOWN if name == "files" else ConnectionState.DENIED
        office.app.health.report(name, state, "fix it")
    description, tags = said(office, "lost-download")
    assert [part.split("`")[1] for part in description.split("\n\n")[:3]] == ["files", "outbox", "shop"]
    assert tags == ["orchestrator", "connection-denied", "connection-down"]


def test_a_changed_state_wakes_whoever_shows_it(office: Office) -> None:
    office.app.ended.clear()
    office.app.health.report("shop", ConnectionState.WORKING, "")
    assert not office.app.ended.is_set(), "nothing has changed"
    office.app.health.report("shop", ConnectionState.DENIED, "fix it")
    assert office.app.ended.is_set()
