"""``orchestrator up`` with everything real: killed, leaking, stopped. The tests of this file follow each other."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import smtplib
import subprocess
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.bootstrap import Application
from orchestrator.kernel.runs import RunState
from orchestrator.record.verify import verify
from orchestrator.sandbox.shop import ONE_PURCHASE, THREE_PURCHASES
from orchestrator.sandbox.systems import SUPPORT, Sandbox
from tests.support.dns_lookups import foreign, record_lookups
from tests.support.gateways import PATIENCE_SECONDS, wait_until
from tests.support.paths import ROOT
from tests.support.prefect_operator import retry
from tests.support.processes import is_alive
from tests.support.webhooks import signed

CONFIG = """
[worker]
processes = 2

[connections.leaky]
connector = "leaky"
url = "https://user:{url_password}@vendor.example.com/api?key={url_key}"
login = {{token = "{token}"}}
keys = {keys}

[processes.leaky.bindings]
order_records = "leaky"

[webhooks.leaky]
process = "leaky"
verify = "standard-webhooks"
input.email = "/email"
input.name = "/name"
input.how = "/how"

[webhooks.unsigned]
process = "leaky"
verify = "none"
path_secret = "{path_secret}"
input.email = "/email"
input.name = "/name"
"""

# Prefect's server on SQLite answers late, or with 503, while its own requests wait for each other.
pytestmark = pytest.mark.flaky(reruns=2)


@dataclass
class Canaries:
    """Values that must be seen nowhere, by name."""

    values: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        """Return a value of this name, as nobody else has it: 33 characters, which base64 needs not pad."""
        return self.values.setdefault(name, f"q{secrets.token_hex(16)}")

    def address(self, name: str) -> str:
        return f"{self[name]}@example.com"

    def seen_in(self, content: bytes) -> list[str]:
        return [name for name, value in self.values.items() if value.lower().encode() in content.lower()]


@dataclass
class Up:
    """The service, the systems around it, and what must not leak from it."""

    sandbox: Sandbox
    process: subprocess.Popen[bytes]
    data: Path
    canaries: Canaries
    app: Application

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.data / "up.log").read_text().splitlines()]

    def started(self, name: str) -> list[int]:
        """Return the process ids that a child has had."""
        said = re.compile(rf"Started {name} \(process (\d+)\)")
        return [int(found[1]) for line in self.lines() if (found := said.match(line["message"]))]

    def ready(self) -> dict[str, bool]:
        assert self.process.poll() is None, (self.data / "up.log").read_text()
        try:
            return dict(httpx.get(f"{self.sandbox.status_url}/ready", timeout=PATIENCE_SECONDS).json())
        except httpx.TransportError:
            return {}

    def metrics(self) -> str:
        return httpx.get(f"{self.sandbox.status_url}/metrics", timeout=PATIENCE_SECONDS).text

    def call(self, number: int, how: str) -> int:
        body = json.dumps(
            {
                "email": self.canaries.address(f"email_{number}"),
                "name": self.canaries[f"name_{number}"],
                "how": how,
                "more": self.canaries[f"payload_{number}"],
            }
        ).encode()
        return self.post("/hooks/leaky", body, f"call-{number}")

    def post(self, path: str, body: bytes, id_: str) -> int:
        headers = signed("standard-webhooks", body, time.time(), secret=self.canaries["hook"].encode(), id_=id_)
        response = httpx.post(
            f"{self.sandbox.gateway_url}{path}", content=body, headers=headers, timeout=PATIENCE_SECONDS
        )
        assert self.canaries.seen_in(response.content) == []
        return response.status_code

    def runs(self, process: str) -> Counter[RunState]:
        return Counter(run.state for run in self.app.runs.listed(limit=100) if run.process == process)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    data, canaries = tmp_path_factory.mktemp("up"), Canaries()
    named = {name: canaries[name] for name in ("url_password", "url_key", "token", "path_secret")}
    config = data / "config.toml"
    config.write_text(
        Path("config/sandbox.toml").read_text()
        + CONFIG.format(**named, keys=json.dumps([canaries[f"key_{number}"] for number in range(12)]))
    )
    _write_secrets(data, canaries)
    _install_plugin(data)
    inherited = dict(os.environ)
    record_lookups(data / "plugins")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(data / "plugins"), str(ROOT)])
    try:
        with Sandbox(data, config, prefect_port=0) as sandbox:
            sandbox.start_systems()
            process = sandbox.start_service()
            app = sandbox.application()
            yield Up(sandbox=sandbox, process=process, data=data, canaries=canaries, app=app)
            app.record.store.close()
    finally:
        os.environ.clear()
        os.environ.update(inherited)


def _write_secrets(data: Path, canaries: Canaries) -> None:
    (data / "secrets").mkdir(mode=0o700)
    for name, value in {
        "connections__leaky__password": canaries["password"],
        "webhooks__leaky__secrets": "whsec_" + b64encode(canaries["hook"].encode()).decode(),
    }.items():
        file = data / "secrets" / name
        file.write_text(value)
        file.chmod(0o600)


def _install_plugin(data: Path) -> None:
    about = data / "plugins" / "leaky-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: leaky\nVersion: 1.0\n")
    groups = ("orchestrator.connectors", "orchestrator.processes")
    lines = [f"[{group}]\nleaky = tests.support.leaky_plugin\n" for group in groups]
    (about / "entry_points.txt").write_text("".join(lines))


def test_one_command_starts_everything_and_says_where_it_is(up: Up) -> None:
    wait_until(lambda: up.ready() == {"ready": True, "hooks": True, "worker": True, "processes": True, "prefect": True})
    said = [line["message"] for line in up.lines() if line["service"] == "up"]
    password = up.data / "prefect" / "auth-string"
    assert f"Prefect UI {up.sandbox.prefect_url} (log in with the whole content of {password})" in said
    up.canaries.values["auth_string"] = password.read_text()
    assert f"Webhooks {up.sandbox.gateway_url}/hooks/NAME (leaky, unsigned)" in said
    assert f"Metrics {up.sandbox.status_url}/metrics" in said
    assert up.sandbox.run("ready").stdout == "Ready.\n"


def test_a_second_one_on_the_same_data_says_so_and_ends(up: Up) -> None:
    second = up.sandbox.run("up")
    assert second.returncode == 1
    assert f"another `orchestrator up` (process {up.process.pid}) is at work here" in second.stderr
    assert len(second.stderr.splitlines()) == 1


def test_a_killed_worker_and_a_killed_gateway_are_started_again_and_the_work_is_done(up: Up) -> None:
    killed = ("worker", "worker-2", "gateway")
    for name in killed:
        (pid,) = up.started(name)
        os.kill(pid, signal.SIGKILL)
    up.sandbox.write_mail(ONE_PURCHASE, "I lost my download", "Could you send it again?")
    wait_until(lambda: up.sandbox.newest_mail(ONE_PURCHASE))
    wait_until(lambda: up.ready().get("ready"))
    assert [len(up.started(name)) for name in (*killed, "prefect")] == [2, 2, 2, 1]
    counted = set(up.metrics().splitlines())
    assert {f'orchestrator_restarts_total{{child="{name}"}} 1.0' for name in killed} <= counted
    assert up.call(1, "body") == 202
    wait_until(lambda: up.runs("leaky")[RunState.FAILED] == 1)


def test_a_killed_prefect_is_started_again_and_shows_what_happened_meanwhile(up: Up) -> None:
    (pid,) = up.started("prefect")
    os.kill(pid, signal.SIGKILL)
    up.sandbox.write_mail(THREE_PURCHASES, "Lost pattern", "I can't find my raglan thing.")
    wait_until(lambda: up.sandbox.newest_mail(THREE_PURCHASES))
    wait_until(lambda: len(up.started("prefect")) == 2)
    wait_until(lambda: all(run.prefect_run_id for run in up.app.runs.listed(limit=100)))


def test_nothing_leaks_whatever_crashes(up: Up) -> None:
    assert [up.call(2, "connector"), up.call(3, "body")] == [202, 202]
    unsigned = json.dumps({"email": up.canaries.address("email_4"), "name": up.canaries["name_4"]}).encode()
    assert up.post(f"/hooks/unsigned/{up.canaries['path_secret']}", unsigned, "call-4") == 202
    assert up.post("/hooks/leaky", f'{{"email": "{up.canaries["broken"]}'.encode(), "call-5") == 202
    assert up.post(f"/hooks/{up.canaries['path']}?token={up.canaries['query']}", b"{}", "call-6") == 401
    for name in ("subject", "text", "unparseable"):
        _write_broken_mail(up, name)
    said = up.sandbox.run("run", "leaky", "--email", up.canaries.address("typed"), "--name", up.canaries["typed_name"])
    assert said.returncode == 3, said.stdout
    assert up.canaries.seen_in((said.stdout + said.stderr).encode()) == []
    wait_until(lambda: up.runs("leaky")[RunState.FAILED] >= 2 and up.runs("leaky")[RunState.READY] >= 3)
    wait_until(lambda: up.runs("support-inbox")[RunState.DONE] == 5)
    _show_everything_in_prefect(up)
    _retry_in_prefect(up, said.stdout.split()[1].rstrip(":"))
    assert len(up.canaries.values) >= 50
    places = dict(_places(up))
    found = [(place, name) for place, content in places.items() for name in up.canaries.seen_in(content)]
    assert found == []
    blind = [place for place, content in places.items() if b"leaky" not in content]
    assert blind == [], "the search would have found nothing there"


def test_no_process_of_the_service_looks_up_a_name_outside_of_this_machine(up: Up) -> None:
    told = up.data / "plugins" / "looked-up"
    assert "127.0.0.1" in told.read_text()
    assert foreign(told) == set()


def _write_broken_mail(up: Up, name: str) -> None:
    raw = (
        f"From: {up.canaries[name + '_name']} <{up.canaries.address(name + '_from')}>\r\n"
        f"To: {SUPPORT}\r\nMessage-ID: <{up.canaries[name + '_id']}@example.com>\r\n"
        f"Subject: =?x-unknown?Q?{up.canaries[name + '_subject']}?=\r\n"
        f'Content-Type: multipart/mixed; boundary="{up.canaries[name + "_boundary"]}\r\n\r\n{up.canaries[name]}\r\n'
    )
    with smtplib.SMTP("127.0.0.1", up.sandbox.mail.smtp_port) as smtp:
        smtp.sendmail("writer@elsewhere.example", SUPPORT, raw.encode())


def _show_everything_in_prefect(up: Up) -> None:
    wait_until(lambda: "\norchestrator_runs_to_show 0.0\n" in up.metrics())


def _retry_in_prefect(up: Up, run_id: str) -> None:
    """Let a run that waits be executed by Prefect's word, so that its steps are task runs there."""
    with up.app.record.store.read() as tx:
        retry(up.sandbox, str(up.app.runs.get(tx, run_id).prefect_run_id))
    wait_until(lambda: up.sandbox.ask_prefect("POST", "/task_runs/filter", {"limit": 1}))


def _places(up: Up) -> Iterator[tuple[str, bytes]]:
    """Return everything that leaves our processes, encrypted columns and all."""
    yield "record", b"".join((up.data / f"orchestrator.db{part}").read_bytes() for part in ("", "-wal"))
    yield "Prefect's database", b"".join(file.read_bytes() for file in (up.data / "prefect").glob("prefect.db*"))
    yield "log", (up.data / "up.log").read_bytes()
    yield "metrics", up.metrics().encode()
    for kind in ("flow_runs", "task_runs", "logs", "artifacts"):
        rows = up.sandbox.ask_prefect("POST", f"/{kind}/filter", {"limit": 200})
        yield f"Prefect's {kind}", json.dumps([*rows, "leaky"]).encode()


def test_a_stop_ends_everything_in_time_and_the_record_verifies(up: Up) -> None:
    children = [pid for name in ("worker", "worker-2", "gateway", "prefect") for pid in up.started(name)]
    began = time.monotonic()
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(PATIENCE_SECONDS) == 0
    assert time.monotonic() - began < up.app.settings.service.stop_seconds + 5
    assert not any(is_alive(pid) for pid in children)
    assert up.lines()[-1]["message"] == "Everything has stopped"
    with up.app.record.store.read() as tx:
        assert verify(tx).breaches == ()
