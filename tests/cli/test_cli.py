from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.bootstrap import use
from orchestrator.cli import app
from tests.support.app_with_fakes import ANNA, CONFIG, Office
from tests.support.console import Console, command, commands


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    opened = Office(tmp_path)
    assert opened.app.record.store.dialect == "sqlite"  # it is there, as that of a service that has run
    use(opened.app)
    yield opened
    opened.app.record.store.close()


def test_plugins_are_listed_with_what_they_offer(office: Office, console: Console) -> None:
    rows = {row["name"]: row for row in console("plugins", "--json").json}
    assert rows["flows"]["offers"] == ["alarm", "lost-download", "strangers", "support-inbox"]
    assert rows["s3"]["state"] == "loaded"
    assert "flows" in console("plugins").out


def test_processes_are_listed_with_what_answers_their_needs(office: Office, console: Console) -> None:
    rows = {row["process"]: row for row in console("processes", "--json").json}
    assert rows["lost-download"]["needs"] == [
        "orders from shop",
        "files from files",
        "mailer from outbox",
        "people from host",
        "inbox from host",
        "cases from host",
    ]
    assert rows["support-inbox"]["title"] == "Give every mail to the support address to whom it belongs"
    assert "Get a customer the download" in console("processes").out


def test_the_form_of_a_process_is_shown(office: Office, console: Console) -> None:
    said = console("processes", "lost-download").out
    assert "--email\n" in said
    assert "--product (optional)\n" in said
    assert console("processes", "lost-download", "--json").json["required"] == ["email"]


def test_connections_are_listed_with_their_capabilities(office: Office, console: Console) -> None:
    rows = {row["connection"]: row for row in console("connections", "--json").json}
    assert rows["shop"]["provides"] == ["order_records"]
    assert set(rows) == {"shop", "files", "archive", "outbox", "support", "chat"}
    assert "fake-archive" in console("connections").out


def test_a_check_that_finds_nothing_says_so(office: Office, console: Console) -> None:
    said = console("check")
    assert (said.code, said.out.splitlines()[-1]) == (0, "Everything fits.")
    found = console("check", "--json")
    assert (found.code, found.json["problems"]) == (0, [])
    assert all(row["works"] for row in found.json["connections"])


@pytest.mark.parametrize(
    ("written", "instead", "problem"),
    [
        (
            'file_links = "files"',
            'file_links = "fils"',
            '[bindings] file_links: there is no connection "fils"; did you mean "files"?, or write [connections.fils]',
        ),
        (
            'file_links = "files"',
            'file_links = "shop"',
            '[bindings] file_links: connection "shop" gives no FileLinks (its connector is fake-orders); write',
        ),
        (
            'bindings.file_links = "files"',
            "",
            '[bindings] file_links: process "lost-download" needs',
        ),
        (
            'process = "support-inbox"',
            'process = "suport-inbox"',
            '[mailboxes.support] process: there is no process "suport-inbox"; did you mean "support-inbox"?',
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_exit_code_1(
    tmp_path: Path, console: Console, written: str, instead: str, problem: str
) -> None:
    use(Office(tmp_path, CONFIG.replace(written, instead)).app)
    found = console("check", "--json")
    assert found.code == 1
    (sentence,) = found.json["problems"]
    assert problem in sentence
    said = console("check")
    assert (said.code, said.out.splitlines()[-1]) == (1, "Not everything works.")
    assert f"Problem: {sentence}" in said.out


def test_a_connection_whose_calls_may_take_longer_than_a_lease_is_named(tmp_path: Path, console: Console) -> None:
    slow = """
[connections.slow]
connector = "webhook"
url = "https://127.0.0.1:9/notices"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
timeout_seconds = 90
"""
    use(Office(tmp_path, f"{CONFIG}{slow}").app)
    (advice,) = [each for each in console("check", "--json").json["advice"] if "lease" in each]
    assert advice.startswith("connection slow: a call may take 90 s (timeout_seconds), longer than a lease")
    assert f"Advice: {advice}" in console("check").out
    use(Office(tmp_path, f"{CONFIG}{slow}[worker]\nlease_seconds = 90\n").app)
    assert "lease" not in str(console("check", "--json").json["advice"])


def test_a_connection_that_does_not_work_is_named(office: Office, console: Console) -> None:
    office.app.connections.get("shop").check = lambda: 1 / 0
    found = console("check", "--json")
    assert found.code == 1
    (broken,) = [row for row in found.json["connections"] if not row["works"]]
    assert broken["connection"] == "shop"
    assert "ZeroDivisionError" in broken["seen"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[store\n", "is no TOML"),
        ('[stor]\nurl = "sqlite:///x.db"', "[stor]: is no section; did you mean"),
        ('[store]\nurl = "mysql://x"', "[store] url: names no store that is supported"),
        ('[connections.shop]\nconnector = "shop-sq"', '[connections.shop] connector: no connector "shop-sq"'),
    ],
)
def test_a_broken_configuration_is_one_sentence_and_exit_code_1(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "o.toml"
    config.write_text(text)
    found = command("check", "--config", str(config))
    assert (found.code, found.out) == (1, "")
    (line,) = found.err.splitlines()
    assert line.startswith(str(config))
    assert said in line


def test_without_a_configuration_the_remedy_is_said(tmp_path: Path) -> None:
    found = command("check", "--config", str(tmp_path / "none.toml"))
    assert (found.code, found.out, len(found.err.splitlines())) == (1, "", 1)
    assert "copy config/production.example.toml to orchestrator.toml" in found.err


def test_files_come_from_another_connection_by_a_change_of_one_line(tmp_path: Path) -> None:
    swapped = CONFIG.replace('file_links = "files"', 'file_links = "archive"')
    assert len(set(CONFIG.splitlines()) ^ set(swapped.splitlines())) == 2
    issued = []
    for name, config in (("before", CONFIG), ("after", swapped)):
        (tmp_path / name).mkdir()
        office = Office(tmp_path / name, config)
        office.serve(ANNA)
        issued.append((len(office.files.links), len(office.archive.links), len(office.mailer.sent)))
        office.app.record.store.close()
    assert issued == [(1, 0, 1), (0, 1, 1)]


@pytest.mark.parametrize(
    "arguments",
    [
        "processes nonsense",
        "run nonsense",
        "run lost-download",
        "run lost-download --nonsense 1",
        "run lost-download --email nonsense",
        "runs resume r-0",
        "runs --customer nobody@example.com",
        "audit show r-0",
        "decisions show f-0",
        "decisions answer f-0 yes",
        "inbox show d-0",
        "inbox show d-0 --raw",
        "inbox close d-0",
        "effects settle f-0 --retry",
    ],
)
def test_what_is_not_there_is_one_line_and_exit_code_1(office: Office, console: Console, arguments: str) -> None:
    said = console(*arguments.split())
    assert (said.code, said.out, len(said.err.splitlines())) == (1, "", 1)


@pytest.mark.parametrize(
    "arguments", ["nonsense", "runs --nonsense", "runs --state nonsense", "audit show", "inbox -n x"]
)
def test_what_is_called_wrongly_is_explained_without_a_traceback(
    office: Office, console: Console, arguments: str
) -> None:
    said = console(*arguments.split())
    assert said.code == 2
    assert "Traceback" not in said.out + said.err
    assert "Error" in said.out + said.err


def test_each_command_explains_itself(console: Console) -> None:
    known = list(commands(app))
    assert {("demo",), ("run",), ("worker",), ("inbox", "close"), ("audit", "verify")} <= set(known)
    for path in ((), *known):
        said = console(*path, "--help")
        assert (said.code, said.err) == (0, ""), path
        assert said.out.startswith(" ".join(["Usage: orchestrator", *path])), path
        assert "Exit code 0" in said.out, path


GROUPS = {(), ("audit",), ("connectors",), ("new",)}
"""They do nothing without another word."""


@pytest.mark.parametrize("path", [path for path in commands(app) if path not in GROUPS], ids=" ".join)
def test_the_help_of_each_command_shows_a_call_that_fits(
    console: Console, monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    (example,) = re.findall(r"Example: orchestrator ([^<\n]+)", console(*path, "--help").out)
    words = example.split()
    assert tuple(words[: len(path)]) == path
    app.parse_args(words, exit_on_error=False, print_error=False)


def test_a_shell_completes_commands_and_options(tmp_path: Path) -> None:
    script = tmp_path / "completion"
    assert command("--install-completion", "--shell", "bash", "--output", str(script)).code == 0
    typed = "COMP_WORDS=(orchestrator inbox --state ''); COMP_CWORD=3; _orchestrator"
    ask = f'source {script}; {typed}; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["/bin/bash", "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["new", "settled", "for-person", "started", "dead-letter", "discarded"]


def test_every_field_of_a_listing_can_be_read_by_a_program(office: Office, console: Console) -> None:
    office.serve(ANNA)
    office.ask()
    office.doubt()
    office.receive("Hello")
    listings = ("plugins", "processes", "connections", "runs", "decisions", "inbox", "effects", "audit tail")
    for listing in listings:
        rows = console(*listing.split(), "--json").json
        assert rows, listing
        assert all(isinstance(row, dict) for row in rows)


STARTED = """
import sys, time
started = time.perf_counter()
import {}
print(time.perf_counter() - started, "prefect" in sys.modules)
"""


def test_the_package_is_there_at_once_and_the_command_line_loads_no_prefect() -> None:
    seconds = []
    for module in ("orchestrator", "orchestrator", "orchestrator", "orchestrator.cli"):
        script = [sys.executable, "-c", STARTED.format(module)]
        done = subprocess.run(script, capture_output=True, text=True, check=True)
        taken, prefect = done.stdout.split()
        assert prefect == "False"
        seconds.append(float(taken))
    assert min(seconds[:3]) < 0.2
