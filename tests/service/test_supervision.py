from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.logs import Form
from orchestrator.sandbox.systems import free_port
from orchestrator.service.children import TIED, children_of
from orchestrator.service.lock import locked
from orchestrator.service.supervision import LONGEST_PAUSE_SECONDS, how, pause_after
from orchestrator.settings import PrefectSettings, ServiceSettings, Settings, WorkerSettings
from tests.support.gateways import PATIENCE_SECONDS, Process, wait_until
from tests.support.paths import ROOT
from tests.support.processes import is_alive

Start = Callable[..., subprocess.Popen[bytes]]


def pids(folder: Path, name: str) -> list[int]:
    """Return the process ids that a child has had."""
    file = folder / name
    return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*children: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.support.supervisor", str(tmp_path), *children]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with (tmp_path / "log").open("ab") as log:
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, umask=0))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait(PATIENCE_SECONDS)


def running(folder: Path, *names: str) -> list[int]:
    """Return the processes of the children, once they run."""
    wait_until(lambda: all(pids(folder, name) for name in names))
    return [pids(folder, name)[-1] for name in names]


def test_a_killed_child_is_started_again_and_the_log_says_why(tmp_path: Path, start: Start) -> None:
    start("gateway", "worker")
    gateway, worker = running(tmp_path, "gateway", "worker")
    for deaths in (1, 2):
        os.kill(pids(tmp_path, "worker")[-1], signal.SIGKILL)
        wait_until(lambda deaths=deaths: len(pids(tmp_path, "worker")) == deaths + 1)  # type: ignore[misc]
    assert pids(tmp_path, "gateway") == [gateway]
    log = (tmp_path / "log").read_text()
    assert f"The worker (process {worker}) was ended by SIGKILL; it is started again in 0.5 s" in log
    assert (
        "was ended by SIGKILL for the 2. time in a row; its own lines tell why, or run it by itself: python -m" in log
    )


def test_what_a_child_writes_is_for_this_user_alone(tmp_path: Path, start: Start) -> None:
    start("prefect")
    running(tmp_path, "prefect")
    assert (tmp_path / "prefect").stat().st_mode & 0o777 == 0o600


def test_a_stop_ends_all_children_and_kills_those_that_do_not_listen(tmp_path: Path, start: Start) -> None:
    supervisor = start("gateway", "worker:deaf")
    children = running(tmp_path, "gateway", "worker")
    began = time.monotonic()
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(PATIENCE_SECONDS) == 0
    assert time.monotonic() - began < PATIENCE_SECONDS / 2
    assert [is_alive(pid) for pid in children] == [False, False]
    assert "Killed, for it did not stop in time: worker" in (tmp_path / "log").read_text()


def test_a_child_that_is_stopped_is_killed_and_started_again(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SILENT_SECONDS", "4")
    start("gateway", "worker")
    gateway, worker = running(tmp_path, "gateway", "worker")
    os.kill(worker, signal.SIGSTOP)
    wait_until(lambda: len(pids(tmp_path, "worker")) == 2)
    assert pids(tmp_path, "gateway") == [gateway]
    assert not is_alive(worker)
    log = (tmp_path / "log").read_text()
    assert f"The worker (process {worker}) hangs: it has given no sign of life for 4 s, and is killed" in log
    assert f"The worker (process {worker}) was ended by SIGKILL; it is started again in 0.5 s" in log


def test_a_gateway_that_is_stopped_answers_again(tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SILENT_SECONDS", "6")
    gateway = Process(tmp_path)
    start("gateway:real")

    def answers() -> bool:
        with suppress(httpx.TransportError):
            return gateway.client.get("/live").is_success
        return False

    wait_until(answers)
    (pid,) = map(int, re.findall(r"Started gateway \(process (\d+)\)", (tmp_path / "log").read_text()))
    os.kill(pid, signal.SIGSTOP)
    gateway.client.close()
    gateway.client = httpx.Client(base_url=f"http://127.0.0.1:{gateway.port}", timeout=1)
    wait_until(answers)
    assert not is_alive(pid)
    gateway.client.close()


def test_a_second_stop_kills_at_once(tmp_path: Path, start: Start) -> None:
    supervisor = start("worker:deaf")
    (worker,) = running(tmp_path, "worker")
    supervisor.send_signal(signal.SIGTERM)
    wait_until(lambda: "told to stop" in (tmp_path / "log").read_text())
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(PATIENCE_SECONDS) == 0
    assert not is_alive(worker)
    assert "what still runs is killed" in (tmp_path / "log").read_text()


def test_no_child_outlives_a_killed_supervisor_and_the_folder_is_free_after_the_last(
    tmp_path: Path, start: Start
) -> None:
    supervisor = start("gateway", "worker")
    children = running(tmp_path, "gateway", "worker")
    supervisor.kill()
    supervisor.wait(PATIENCE_SECONDS)
    wait_until(lambda: not any(is_alive(pid) for pid in children))
    with locked(tmp_path):
        pass


def test_a_child_that_does_not_listen_ends_all_the_same_when_its_supervisor_is_gone(tmp_path: Path) -> None:
    tie, held = os.pipe()
    read, signs = os.pipe()
    tied = [sys.executable, "-m", TIED, str(tie), str(signs), "0.1", "worker", "text"]
    command = [*tied, "tests.support.supervised_child", "worker", str(tmp_path), "deaf"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(command, env=environment, pass_fds=[tie, signs], stderr=subprocess.PIPE, text=True)
    running(tmp_path, "worker")
    os.close(held)
    _, said = child.communicate(timeout=PATIENCE_SECONDS)
    for end in (tie, read, signs):
        os.close(end)
    assert child.returncode == 1
    assert "`orchestrator up` is gone: this process stops within 0.1 s" in said


def test_every_line_of_a_server_is_a_line_of_our_log_also_its_tracebacks(tmp_path: Path) -> None:
    tie, held = os.pipe()
    read, signs = os.pipe()
    port = free_port(0)
    command = [
        sys.executable,
        "-m",
        TIED,
        str(tie),
        str(signs),
        "5",
        "prefect",
        "json",
        "tests.support.failing_server",
        str(port),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(command, env=environment, pass_fds=[tie, signs], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: answered(port) == 500)
    os.close(held)
    _, said = server.communicate(timeout=PATIENCE_SECONDS)
    for end in (tie, read, signs):
        os.close(end)
    lines = [json.loads(line) for line in said.splitlines()]
    (failed,) = (line for line in lines if line["message"].startswith("Exception in ASGI application"))
    assert (failed["service"], failed["logger"]) == ("prefect", "uvicorn.error")
    assert "failing_server.py" in failed["error"]
    assert "Bergen" not in said


def answered(port: int) -> int:
    """Return the status of an answer, 0 if there is none."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS).status_code
    except httpx.TransportError:
        return 0


def test_prefect_is_not_told_our_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_CONNECTIONS__SHOP__URL", "a secret")
    settings = here(tmp_path, free_port(0))
    environments = [child.whole_environment() for child in children_of(settings, Form.JSON)]
    told = [environment.get("ORCHESTRATOR_CONNECTIONS__SHOP__URL") for environment in environments]
    assert told == ["a secret", "a secret", None]


def test_the_auth_string_reaches_prefect_in_its_environment_and_is_no_argument(tmp_path: Path) -> None:
    *_, prefect = children_of(here(tmp_path, free_port(0)), Form.JSON)
    made = (tmp_path / "prefect" / "auth-string").read_text()
    assert prefect.whole_environment()["PREFECT_SERVER_API_AUTH_STRING"] == made
    assert made not in " ".join([str(prefect), *prefect.command(0, 1, 1, Form.JSON)])


def here(data: Path, port: int) -> Settings:
    address = f"http://127.0.0.1:{port}/api"
    return Settings(prefect=PrefectSettings(api_url=address), service=ServiceSettings(data=data))


def test_what_cannot_start_stops_everything_before_it_was_ready_once(tmp_path: Path, start: Start) -> None:
    code = "import tests.support.supervisor as s; from pathlib import Path; import anyio, sys, tempfile\n"
    code += "folder = Path(sys.argv[1])\n"
    code += "with s.locked(folder) as lock:\n"
    code += "    it = s.supervisor(s.child('gateway', folder, 'ends 1'), s.child('worker', folder), lock=lock)\n"
    code += "    anyio.run(it.run)\n"
    code += "sys.exit(7 if it.failed else 0)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 7, done.stderr
    assert "The gateway cannot start, and has said why: everything stops" in done.stderr
    assert len(pids(tmp_path, "gateway")) == 1
    assert not any(is_alive(pid) for pid in pids(tmp_path, "worker"))


def test_the_pause_doubles_up_to_a_minute() -> None:
    assert [pause_after(deaths) for deaths in (1, 2, 3, 4)] == [0.5, 1, 2, 4]
    assert pause_after(1000) == LONGEST_PAUSE_SECONDS


def test_how_a_process_ended_is_said_in_words() -> None:
    assert [how(code) for code in (3, -9, -250)] == [
        "ended with code 3",
        "was ended by SIGKILL",
        "was ended by signal 250",
    ]


def test_a_folder_has_one_owner_at_a_time_who_is_named(tmp_path: Path) -> None:
    with locked(tmp_path / "data") as lock:
        with pytest.raises(
            ConfigurationError, match=rf"another `orchestrator up` \(process {os.getpid()}\) is at work"
        ):
            locked(tmp_path / "data").__enter__()
        heir = subprocess.Popen(["sleep", "60"], pass_fds=[lock])
    (tmp_path / "data" / "up.lock").write_text("999999999")
    with pytest.raises(ConfigurationError, match="was killed, and what it had started is still stopping"):
        locked(tmp_path / "data").__enter__()
    heir.kill()
    heir.wait(PATIENCE_SECONDS)
    with locked(tmp_path / "data"):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(ConfigurationError, match=r"\[service\] data: .* cannot be written"):
        locked(tmp_path / "data").__enter__()


@pytest.mark.parametrize(
    ("written", "served", "address"),
    [
        ({}, True, ("127.0.0.1", 4200)),
        ({"api_url": "http://localhost:4300/api"}, True, ("localhost", 4300)),
        ({"api_url": "https://prefect.example.com/api"}, False, ("prefect.example.com", 80)),
        ({"serve": False}, False, ("127.0.0.1", 4200)),
        ({"api_url": "http://prefect.lan:4200/api", "serve": True, "host": "0.0.0.0"}, True, ("0.0.0.0", 4200)),
    ],
)
def test_prefects_server_is_ours_if_it_is_on_this_machine_or_we_are_told(
    written: dict[str, object], served: bool, address: tuple[str, int]
) -> None:
    settings = PrefectSettings.model_validate(written)
    assert (settings.is_served, settings.address) == (served, address)


def test_prefect_is_run_only_where_nothing_listens_yet(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = here(tmp_path, port)
        with pytest.raises(ConfigurationError, match=rf"cannot listen at 127.0.0.1, port {port} .*write serve = false"):
            children_of(settings, Form.JSON)
    names = [child.name for child in children_of(settings, Form.JSON)]
    assert names == ["gateway", "worker", "prefect"]


def test_more_processes_execute_runs_and_do_nothing_else() -> None:
    settings = Settings(
        prefect=PrefectSettings(api_url="http://prefect.example.com/api"), worker=WorkerSettings(processes=3)
    )
    commands = {child.name: child.arguments for child in children_of(settings, Form.JSON)}
    log = ("--log", "json")
    assert commands == {
        "gateway": ("gateway", *log),
        "worker": ("worker", *log),
        "worker-2": ("worker", "--only-runs", *log),
        "worker-3": ("worker", "--only-runs", *log),
    }


def test_a_server_that_cannot_be_ours_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be served by `orchestrator up`"):
        PrefectSettings(api_url="https://127.0.0.1:4200/api")
