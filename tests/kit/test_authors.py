"""What an author of a plug-in sees: the place of an error, its words on their own terminal, and commands that work."""

from __future__ import annotations

import os
import pty
import re
import site
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.errors import RunError
from orchestrator.kernel.steps import where
from orchestrator.kit.generating import new_connector, new_process
from tests.support.connections import connected
from tests.support.console import command
from tests.support.kernel_bench import Bench, FakeSystem, process, send_link

SEND_LINK = process(send_link)
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_place_of_an_error_is_in_the_file_that_we_called_not_in_a_library(tmp_path: Path) -> None:
    file = tmp_path / "acme_plugin.py"
    file.write_text("import json\n\n\ndef look():\n    return json.loads('no')\n")
    names: dict[str, object] = {}
    exec(compile(file.read_text(), str(file), "exec"), names)
    with pytest.raises(ValueError, match="Expecting value") as caught:
        names["look"]()  # type: ignore[operator]
    called = caught.value
    called.__traceback__ = called.__traceback__ and called.__traceback__.tb_next  # as the kernel calls it
    assert where(called) == "acme_plugin.py:5"


def test_an_answer_that_does_not_fit_names_the_field_and_not_what_stood_there(bench: Bench, system: FakeSystem) -> None:
    system.before.append(lambda: [{"order": "17", "product": "Book", "email": "secret@example.com"}])
    run_id = bench.open(SEND_LINK)
    with pytest.raises(RunError):
        bench.kernel.execute(SEND_LINK, run_id)
    reason = bench.run(run_id).reason
    assert "answered with something else than the capability promises (0.asset: missing)" in reason
    assert "secret" not in reason


WRONG = """
from orchestrator.capabilities import Value
from orchestrator.process import RegisterProcess, hookimpl, process


class Nothing(Value):
    email: str = ""


@process("wrong")
def wrong(request: Nothing) -> None:
    \"\"\"Fail.\"\"\"
    raise ValueError(f"words about {request.email}")


@hookimpl
def register_processes(register: RegisterProcess) -> None:
    register(wrong)
"""


@pytest.fixture
def author(tmp_path: Path) -> dict[str, str]:
    """The environment of an author whose plug-in has a process that fails."""
    (tmp_path / "wrong_process.py").write_text(WRONG)
    info = tmp_path / "wrong-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wrong\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[orchestrator.processes]\nwrong = wrong_process\n")
    (tmp_path / "o.toml").touch()
    return {"PYTHONPATH": str(tmp_path), "ORCHESTRATOR_CONFIG": str(tmp_path / "o.toml")}


def on_terminal(*arguments: str, environment: dict[str, str]) -> str:
    """Call the command line with a terminal for what it says of errors; return what that shows."""
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={**os.environ, **environment},
    )
    os.close(theirs)
    shown = b"".join(_read(ours))
    assert done.wait(60) == 1
    os.close(ours)
    return shown.decode()


def _read(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux: the other end was closed
            return
        if not part:
            return
        yield part


def test_the_words_of_an_error_are_shown_on_the_authors_terminal_alone(author: dict[str, str], tmp_path: Path) -> None:
    arguments = ("run", "wrong", "--email", "ann@example.com")
    assert "words about ann@example.com" in on_terminal(*arguments, "--debug", environment=author)
    assert "words" not in on_terminal(*arguments, environment=author)
    redirected = command(*arguments, "--debug", **author)
    assert (redirected.code, redirected.out) == (1, "")
    assert "on a terminal alone" in redirected.err
    recorded = command("audit", "tail", "--json", **author)
    assert "ValueError at wrong_process.py:" in recorded.out
    assert "words" not in recorded.out


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of an author's own, which sees what is installed here."""
    place = tmp_path_factory.mktemp("author")
    venv.create(place / "env", with_pip=False)
    python = place / "env" / "bin" / "python"
    (folder,) = (place / "env" / "lib").glob("python*/site-packages")
    (folder / "here.pth").write_text(
        "".join(f"import site; site.addsitedir({each!r})\n" for each in site.getsitepackages())
    )
    for name, module in {"pip": "pip", "pytest": "pytest", "orchestrator": "orchestrator"}.items():
        script = place / "env" / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{python}" -m {module} "$@"\n')
        script.chmod(0o755)
    new_connector("acme-files", ["FileLinks"], place)
    new_process("refund-request", place)
    return place


@pytest.mark.parametrize("package", ["acme-files", "refund-request"])
def test_the_commands_of_a_generated_readme_work_as_they_are_printed(place: Path, package: str) -> None:
    readme = (place / package / "README.md").read_text()
    commands = [line.removeprefix("$ ") for text in CONSOLE.findall(readme) for line in text.splitlines()]
    assert len(commands) >= 3
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ORCHESTRATOR_", "PYTHON"))}
    environment |= {**OFFLINE, "PATH": f"{place}/env/bin:/usr/bin:/bin"}
    for each in [*commands, "orchestrator plugins"]:
        done = subprocess.run(
            ["/bin/sh", "-c", each],
            cwd=place / package,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, f"{each}\n{done.stdout}{done.stderr}"
    assert package in done.stdout


def test_the_configuration_of_a_generated_readme_is_one(place: Path, tmp_path: Path) -> None:
    readme = (place / "acme-files" / "README.md").read_text()
    (written,) = re.findall(r"^```toml\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    fitting = written.replace('connector = "acme-files"', 'connector = "shelf"')
    fitting = re.sub(r"^(base_url|token) = .*$", "", fitting, flags=re.MULTILINE)
    assert connected(tmp_path, fitting).connection_for("lost-download", "file_links") == "acme_files"
