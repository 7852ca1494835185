"""A capability, a connector for it and a process that needs it, of three packages that this project never mentions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import TESTS

PACKAGES = ("acme_calendar", "acme_roombook", "acme_appointment")
PIP = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]

CONFIGURATION = """
[connections.rooms]
connector = "acme-roombook"
directory = "rooms"

[bindings]
calendar = "rooms"
"""

CONTRACT = """
import json
import pytest
from acme_calendar_testing import CalendarContract
from acme_roombook import RoomBook, RoomBookSettings

class Diary:
    def __init__(self, folder):
        self._folder = folder

    def guests(self):
        return [json.loads(file.read_text())[1] for file in self._folder.glob("*.json")]

class TestRoomBook(CalendarContract):
    connector = "acme-roombook"

    @pytest.fixture
    def calendar(self, tmp_path):
        return RoomBook(RoomBookSettings(directory=tmp_path))

    @pytest.fixture
    def diary(self, tmp_path):
        return Diary(tmp_path)
"""

PROCESS = """
from datetime import date
from acme_appointment import Visit, appointment
from acme_calendar_testing import FakeCalendar

calendar = FakeCalendar()
assert appointment.body(Visit(email="ann@example.com", day=date(2026, 3, 2)), calendar=calendar) == "booked"
assert calendar.guests() == ["ann@example.com"]
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("acme")
    # pip leaves its build beside the source.
    sources = [str(shutil.copytree(TESTS / "third_party" / each, folder / each)) for each in PACKAGES]
    pip = [sys.executable, "-m", "pip", "install", *PIP, "--target", str(folder / "site"), *sources]
    subprocess.run(pip, check=True, timeout=120)
    return folder / "site"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "rooms").mkdir()
    (tmp_path / "orchestrator.toml").write_text(CONFIGURATION)
    return tmp_path


def run(home: Path, site: Path | None, *arguments: str, code: int = 0) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site or "")}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=home, env=environment, timeout=120, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def told(home: Path, site: Path | None, *arguments: str, code: int = 0) -> Any:
    return json.loads(run(home, site, "-m", "orchestrator", *arguments, "--json", code=code))


def book(home: Path, installed: Path) -> str:
    """Execute the process, and return its run."""
    form = ("--email", "ann@example.com", "--day", "2026-03-02")
    done = told(home, installed, "run", "appointment", *form)
    assert (done["state"], done["result"]) == ("done", "booked")
    return str(done["run"])


def test_each_of_the_three_is_listed_with_what_it_brings(home: Path, installed: Path) -> None:
    listed = {each["name"]: each for each in told(home, installed, "plugins")}
    assert {name: listed[name]["offers"] for name in listed if name.startswith("acme")} == {
        "acme-calendar": ["calendar"],
        "acme-roombook": ["acme-roombook"],
        "acme-appointment": ["appointment"],
    }


def test_the_capability_is_bound_and_checked_like_one_of_ours(home: Path, installed: Path) -> None:
    checked = told(home, installed, "check")
    assert checked["problems"] == []
    assert {each["connection"]: each["works"] for each in checked["connections"]} == {"rooms": True, "host": True}
    (process,) = told(home, installed, "processes")
    assert process["needs"] == ["calendar from rooms"]
    (home / "orchestrator.toml").write_text(CONFIGURATION.replace("calendar =", "calender ="))
    problems = " ".join(told(home, installed, "check", code=1)["problems"])
    assert 'is no capability; did you mean "calendar"?' in problems


def test_a_run_is_recorded_step_by_step_and_reads_the_same_once_the_packages_are_gone(
    home: Path, installed: Path
) -> None:
    run_id = book(home, installed)
    (booking,) = (home / "rooms").glob("*.json")
    assert json.loads(booking.read_text())[1] == "ann@example.com"
    with_them = run(home, installed, "-m", "orchestrator", "audit", "show", run_id)
    assert "Look up which times of a day are free" in with_them
    assert "Book a time, and invite the guest" in with_them
    assert "ann@example.com" not in with_them
    (home / "orchestrator.toml").write_text("")
    assert run(home, None, "-m", "orchestrator", "audit", "show", run_id) == with_them
    assert told(home, None, "audit", "verify")["breaches"] == []
    assert not [each for each in told(home, None, "plugins") if each["name"].startswith("acme")]


def test_without_the_capability_its_connector_and_its_process_are_refused_by_name(home: Path, installed: Path) -> None:
    (home / "orchestrator.toml").write_text('[plugins]\ndisabled = ["acme-calendar"]\n')
    problems = {each["name"]: each["problem"] for each in told(home, installed, "plugins")}
    remedy = "install the plug-in that brings it, or let it call register with a Capability of Calendar"
    assert remedy in problems["acme-roombook"]
    assert remedy in problems["acme-appointment"]


def test_the_connector_keeps_the_contract_of_the_capability_and_its_tier_is_computed(
    home: Path, installed: Path
) -> None:
    (home / "test_contract.py").write_text(CONTRACT)
    said = told(home, installed, "connectors", "test", "acme-roombook", "--tests", "test_contract.py")
    (contract,) = said["contracts"]
    assert (contract["contract"], contract["failed"], contract["skipped"]) == ("CalendarContract", 0, 0)
    assert contract["passed"] == 4
    assert {"contracts-run", "contracts-kept"} <= {each["rule"] for each in said["rules"] if each["kept"]}


def test_its_process_is_tested_with_its_fake(home: Path, installed: Path) -> None:
    run(home, installed, "-c", PROCESS)


def test_a_connector_for_it_is_generated_and_passes_its_own_tests(home: Path, installed: Path) -> None:
    run(home, installed, "-m", "orchestrator", "new", "connector", "diary", "--provides", "Calendar")
    pip = ("-m", "pip", "install", *PIP, "--target", str(home / "site"), "./diary")
    run(home, installed, *pip)
    both = Path(f"{installed}{os.pathsep}{home / 'site'}")
    said = json.loads(run(home / "diary", both, "-m", "orchestrator", "connectors", "test", "diary", "--json"))
    ran = {each["contract"]: each["passed"] for each in said["contracts"]}
    assert (said["tier"], ran["CalendarContract"]) == ("bronze", 4)
