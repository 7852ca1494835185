"""The demo as somebody has it who installed the package: what it prints works as it stands there."""

from __future__ import annotations

import imaplib
import os
import re
import signal
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.prefect_lane.auth import headers
from orchestrator.sandbox.configuration import PACKAGED, as_toml, moved
from orchestrator.sandbox.shop import THREE_PURCHASES
from orchestrator.sandbox.systems import begin_anew
from orchestrator.settings import load_settings
from tests.support.console import command as called
from tests.support.gateways import wait_until
from tests.support.paths import ROOT

ELSEWHERE = "production.db"
# Prefect's server on SQLite answers late, or with 503, while its own requests wait for each other.
pytestmark = pytest.mark.flaky(reruns=2)


@dataclass
class Running:
    """A demo that has shown its story and waits."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    def found(self, pattern: str) -> str:
        """Return the part of what it said that the pattern's only group means."""
        return re.findall(pattern, self.said)[0]

    def commands(self) -> list[str]:
        _, _, after = self.said.partition("In another terminal")
        return [line.strip() for line in after.splitlines() if line.startswith("    ")]

    def paste(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, shell=True, cwd="/", capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("library user")
    with (folder / "said").open("w") as said:
        command = [sys.executable, "-m", "orchestrator", "demo"]
        exported = {**os.environ, "ORCHESTRATOR_STORE__URL": f"sqlite:///{folder / ELSEWHERE}"}
        process = subprocess.Popen(command, cwd=folder, env=exported, stderr=said)
    running = Running(folder, process)
    try:
        wait_until(lambda: "Ctrl-C ends the demo." in running.said or process.poll() is not None)
        assert process.poll() is None, running.said
        yield running
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_every_command_that_it_prints_works(demo: Running) -> None:
    commands = demo.commands()
    assert len(commands) == 7
    for printed in commands:
        done = demo.paste(printed)
        assert (done.returncode, done.stderr) == (0, ""), (printed, done.stdout)
    assert demo.paste(commands[1]).stdout.endswith("Everything fits.\n")


def test_a_customer_who_writes_by_the_printed_command_is_answered_in_the_printed_mailbox(demo: Running) -> None:
    port, password = demo.found(r"IMAP 127.0.0.1:(\d+)"), demo.found(r"each with the password (\S+):")
    assert THREE_PURCHASES in demo.found(r"each with the password (.*)")

    def answers() -> int:
        with imaplib.IMAP4("127.0.0.1", int(port)) as imap:
            imap.login(THREE_PURCHASES, password)
            return int(imap.select("INBOX", readonly=True)[1][0] or b"0")

    demo.paste(demo.commands()[0])
    wait_until(answers)


def test_what_it_says_of_signing_in_opens_prefect(demo: Running) -> None:
    url, place = demo.found(r"Prefect UI: (\S+)"), Path(demo.found(r"whole content of (.*)\."))
    assert httpx.get(f"{url}/api/admin/version").status_code == 401
    assert httpx.get(f"{url}/api/admin/version", headers=headers(place.read_text())).status_code == 200
    for page in (url, *re.findall(r"http://\S+/(?:ready|metrics)\b", demo.said)):
        assert httpx.get(page, headers={"Accept": "text/html"}, follow_redirects=True).is_success


def test_a_second_one_in_the_same_folder_leaves_the_first_ones_record_alone(demo: Running) -> None:
    with pytest.raises(ConfigurationError, match="another `orchestrator up`"):
        begin_anew(demo.folder / "data" / "sandbox")
    assert (demo.folder / "data" / "sandbox" / "orchestrator.db").exists()


def test_a_start_begins_the_record_and_prefects_runs_anew_and_keeps_the_log_in(tmp_path: Path) -> None:
    for name in ("shop.db", "orchestrator.db", "up.log", "prefect/prefect.db", "prefect/auth-string", "keys/kek"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("old")
    begin_anew(tmp_path)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"up.lock", "auth-string"}


@pytest.mark.parametrize("name", ["orchestrator.db", "orchestrator.toml"])
def test_the_folder_of_another_installation_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("theirs")
    with pytest.raises(ConfigurationError, match="is another installation's"):
        begin_anew(tmp_path)
    assert (tmp_path / name).read_text() == "theirs"


def test_another_configuration_is_refused_with_a_sentence() -> None:
    said = called("--config", "mine.toml", "demo")
    assert said.code == 1
    assert said.err.startswith("the demo has a configuration of its own, data/sandbox/orchestrator.toml: leave out")


def test_its_configuration_is_its_own_and_private_whatever_is_exported_for_another_installation(demo: Running) -> None:
    config = demo.folder / "data" / "sandbox" / "orchestrator.toml"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert load_settings(config, {}).store.url == f"sqlite:///{config.with_name('orchestrator.db')}"
    assert not (demo.folder / ELSEWHERE).exists()


@pytest.mark.parametrize("file", [PACKAGED, ROOT / "config" / "production.example.toml"])
def test_a_configuration_is_written_as_it_was_read(file: Path) -> None:
    document = tomllib.loads(file.read_text())
    assert tomllib.loads(as_toml(document)) == document


def test_what_is_moved_is_written_and_nothing_else_changes() -> None:
    before = {"a": {"b": 1, "c": "x"}, "d.e": '\U0001f511\n"\\'}
    after = tomllib.loads(as_toml(moved(before, {"a.b": 2, "f.g": "new"})))
    assert after == {**before, "a": {"b": 2, "c": "x"}, "f": {"g": "new"}}
    assert before["a"] == {"b": 1, "c": "x"}


def test_the_package_brings_the_demos_configuration() -> None:
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    files = {path for pattern in packaged["orchestrator"] for path in (ROOT / "orchestrator").glob(pattern)}
    assert PACKAGED in files
    assert PACKAGED.samefile(ROOT / "config" / "sandbox.toml")
