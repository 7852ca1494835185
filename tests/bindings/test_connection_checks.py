from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from orchestrator.bindings import ConnectionCheck, check_connections
from tests.support.connections import WHOLE, connected
from tests.support.plugins import SHELF, Shelf


def test_each_connection_is_checked_and_says_what_it_saw(tmp_path: Path) -> None:
    crash = type("Crash", (Shelf,), {"check": lambda self: str(self.colour)})
    text = WHOLE + "connections.x = {connector = 'crash'}"
    connections = connected(tmp_path, text, replace(SHELF, name="crash", build=crash))
    assert set(check_connections(connections)) == {
        ConnectionCheck("shelf", "shelf", ok=True, sentence="The shelf is there."),
        ConnectionCheck("attic", "shelf", ok=True, sentence="The shelf is there."),
        ConnectionCheck("post", "post", ok=False, sentence="the post is closed: come again"),
        ConnectionCheck(
            "x",
            "crash",
            ok=False,
            sentence="the connector failed with AttributeError; report it to the connector's authors",
        ),
    }


def test_connections_are_checked_at_the_same_time(tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=10)
    meeting = type("Meeting", (Shelf,), {"check": lambda self: f"{together.wait() < 3}"})
    text = "".join(f"connections.{name} = {{connector = 'meeting'}}\n" for name in "abc")
    connections = connected(tmp_path, text, replace(SHELF, name="meeting", build=meeting))
    assert all(check.ok for check in check_connections(connections))


def test_no_more_than_so_many_connections_are_checked_at_once(tmp_path: Path) -> None:
    busy = threading.Lock()

    class Shy(Shelf):
        def check(self) -> str:
            assert busy.acquire(blocking=False)
            busy.release()
            return "alone"

    text = "".join(f"connections.{name} = {{connector = 'shy'}}\n" for name in "abc")
    connections = connected(tmp_path, text, replace(SHELF, name="shy", build=Shy))
    assert {check.sentence for check in check_connections(connections, at_once=1)} == {"alone"}


def test_a_check_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    never = threading.Event()
    silent = type("Silent", (Shelf,), {"check": lambda self: f"{never.wait(60)}"})
    text = "connections.x = {connector = 'silent'}\nconnections.shelf = {connector = 'shelf'}"
    connections = connected(tmp_path, text, replace(SHELF, name="silent", build=silent))
    checks = {check.name: check for check in check_connections(connections, limit=timedelta(seconds=0.2))}
    never.set()
    assert checks["shelf"].ok
    assert checks["x"].sentence == "gave no answer within 0.2 s; see whether its system can be reached"


def test_only_the_connections_asked_for_are_checked(tmp_path: Path) -> None:
    assert [check.name for check in check_connections(connected(tmp_path), ["attic"])] == ["attic"]
