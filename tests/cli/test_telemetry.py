"""Nothing is told to anybody: no command looks up a name outside of this machine."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.configurations import FLOWS
from tests.support.dns_lookups import foreign, record_lookups
from tests.support.paths import ROOT

CONFIG = FLOWS + 'prefect.api_url = "http://127.0.0.1:9/api"\nstore = {url = "sqlite:///r.db", key_file = "kek"}\n'
RUN = ["run", "lost-download", "--email", "ann@example.com"]
COMMANDS = ("plugins", "processes", "check", "connections", "runs", "decisions", "inbox", "effects", "audit tail")
LIBRARY = ("orchestrator.process", "flows", "orchestrator.worker.main", "orchestrator.testing.mail")


def seen(folder: Path, *arguments: str) -> tuple[str, set[str]]:
    """Call Python at a terminal, as somebody does for the first time; Prefect is curious there alone.

    Returns:
        What it said, and the names that it looked up.
    """
    told = record_lookups(folder)
    (folder / "orchestrator.toml").write_text(CONFIG)
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environment = {**kept, "HOME": str(folder), "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "TERM": "dumb"}
    terminal, end = pty.openpty()
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, cwd=folder, env=environment, stdin=end, stdout=end, stderr=end):
        os.close(end)
        said = b""
        with suppress(OSError):  # so a terminal says that nobody writes to it any more
            while part := os.read(terminal, 65_536):
                said += part
    os.close(terminal)
    assert b"Traceback" not in said
    return said.decode().replace("\r\n", "\n"), foreign(told)


@pytest.mark.parametrize("command", [*(name.split() for name in COMMANDS), RUN], ids=" ".join)
def test_no_command_looks_up_a_name(tmp_path: Path, command: list[str]) -> None:
    said, names = seen(tmp_path, "-m", "orchestrator", *command)
    assert said
    assert "telemetry" not in said
    assert names == set()


@pytest.mark.parametrize("module", LIBRARY)
def test_nor_does_a_program_that_uses_us_as_a_library(tmp_path: Path, module: str) -> None:
    said, names = seen(tmp_path, "-c", f"import {module}; print('imported')")
    assert (said, names) == ("imported\n", set())


def test_a_look_up_would_be_seen(tmp_path: Path) -> None:
    program = "import socket\ntry:\n  socket.create_connection(('shop.invalid', 80))\nexcept OSError:\n  pass"
    assert seen(tmp_path, "-c", program) == ("", {"shop.invalid"})


def test_who_wants_to_be_counted_says_so(tmp_path: Path) -> None:
    program = "import os; os.environ['DO_NOT_TRACK'] = '0'; import orchestrator; print(os.environ['DO_NOT_TRACK'])"
    assert seen(tmp_path, "-c", program) == ("0\n", set())
