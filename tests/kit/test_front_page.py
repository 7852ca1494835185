"""The README: its commands work, those that take minutes exist, and its connector is one that keeps the contract."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from orchestrator.cli import app
from tests.support.console import commands
from tests.support.paths import ROOT, TESTS

README = (ROOT / "README.md").read_text()
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FIRST_SCREEN = 45
TAKES_MINUTES = ("make", "pip", "orchestrator demo")
"""What stands for itself elsewhere: tests/e2e/test_release.py installs a wheel and runs the demo, make is make."""


def blocks(language: str) -> Iterator[str]:
    return (text for written, text in FENCE.findall(README) if written == language)


def shell() -> Iterator[tuple[str, list[str]]]:
    """Return each command without its comment, and what it is said to print."""
    for block in blocks("console"):
        for command in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, *printed = command.splitlines()
            yield shlex.join(shlex.split(line, comments=True)), printed


def test_the_commands_work_in_their_order(tmp_path: Path) -> None:
    place = tmp_path
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command, printed in shell():
        if command.startswith("cd "):
            place /= command.removeprefix("cd ")
        elif not command.startswith(TAKES_MINUTES):
            line = shlex.split(command)
            environment = {**os.environ, "PATH": path}
            done = subprocess.run(line, cwd=place, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
            assert [each for each in printed if each not in done.stdout] == []
    assert [*(place / "outbox").iterdir()]


def test_what_takes_minutes_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    makefile = (ROOT / "Makefile").read_text()
    for command in (command for command, _ in shell() if command.startswith(TAKES_MINUTES)):
        match shlex.split(command):
            case ["make", target]:
                assert f"\n{target}:" in makefile
            case ["pip", "install", wanted]:
                assert (extra := re.fullmatch(r"\.\[(\w+)\]", wanted))
                assert extra[1] in project["optional-dependencies"]
            case other:
                assert tuple(other[1:]) in set(commands(app))


@pytest.mark.parametrize("line", [line for line in README.splitlines() if line.startswith("| `orchestrator ")])
def test_a_command_of_the_table_exists(line: str) -> None:
    known = {" ".join(path) for path in commands(app)}
    first, *others = re.findall(r"`([^`]*)`", line.split("|")[1])
    group = next(name for name in known if f"{first} ".startswith(f"orchestrator {name} "))
    words = [re.match(r"[a-z ]*[a-z](?![A-Z])", each) for each in others]
    for found in filter(None, words):
        word = found.group().split()[0]
        assert {word, f"{group} {word}", f"{group.partition(' ')[0]} {word}"} & known, line


def test_the_connector_is_whole_and_the_one_that_keeps_the_contract() -> None:
    assert (TESTS / "third_party" / "acme_files" / "acme_files.py").read_text() in [*blocks("python")]


def test_the_first_screen_says_how_to_install_it_where_it_runs_and_under_which_licence() -> None:
    screen = "\n".join(README.splitlines()[:FIRST_SCREEN])
    assert [word for word in ("pip install", "macOS", "WSL", "Apache-2.0") if word not in screen] == []


def test_continuous_integration_tries_every_python_that_the_metadata_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [each.rpartition(" ")[2] for each in project["classifiers"] if re.search(r":: 3\.\d+$", each)]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == named
    pinned = re.findall(r"^prefect==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert set(pinned) < set(matrix["prefect"])
