"""The two sides of a benchmark, each started as it is in production, and the counterparts between them."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import new as hmac
from pathlib import Path
from typing import Any, cast

from orchestrator.prefect_lane.environment import server_environment

ROOT = Path(__file__).parents[1]
SECRET = secrets.token_hex(16)
PATIENCE_SECONDS = 120.0
FIRST = 16
"""So many customers are served before anything is measured."""
TICKS = os.sysconf("SC_CLK_TCK")
COMMANDS = {"gateway": ["gateway"], "worker": ["worker"], "worker-2": ["worker", "--only-runs"]}
CONFIG = """
[plugins]
modules = ["flows"]
folder = "{root}"
[store]
url = "sqlite:///{folder}/orchestrator.db"
key_file = "{folder}/keys/kek"
[prefect]
api_url = "{prefect}"
[connections.shop]
connector = "http-orders"
base_url = "http://127.0.0.1:{shop}"
[connections.files]
connector = "s3"
bucket = "product-files"
region = "eu-central-1"
endpoint_url = "http://127.0.0.1:{files}"
addressing_style = "path"
access_key_id = "key"
secret_access_key = "secret"
[connections.support_mail]
connector = "mail"
address = "Shop <support@shop.example>"
[connections.support_mail.smtp]
host = "127.0.0.1"
port = {mail}
security = "plain"
[bindings]
order_records = "shop"
file_links = "files"
mailer = "support_mail"
[gateway]
port = {port}
status_port = 0
[webhooks.shop]
process = "lost-download"
verify = "hmac"
hmac = {{header = "X-Signature"}}
delivery_id = "X-Request-Id"
input.email = "/email"
"""


class BenchmarkError(Exception):
    """A benchmark cannot go on; the message says why."""


@dataclass(kw_only=True)
class Mails:
    """What the mail server took."""

    taken: Counter[str] = field(default_factory=Counter)
    at: dict[str, float] = field(default_factory=dict)
    """Address to when its first mail was taken."""
    _waiting: dict[str, asyncio.Event] = field(default_factory=dict)

    def note(self, line: str) -> None:
        """Note one mail."""
        moment, address = line.split()
        self.taken[address] += 1
        self.at.setdefault(address, float(moment))
        if address in self._waiting:
            self._waiting[address].set()

    async def to(self, address: str) -> float:
        """Wait for the mail to an address, and return when it was taken."""
        event = self._waiting.setdefault(address, asyncio.Event())
        if address not in self.at:
            await asyncio.wait_for(event.wait(), PATIENCE_SECONDS)
        return self.at[address]


@dataclass(frozen=True, kw_only=True)
class Counterparts:
    """The systems around both sides.

    Args:
        ports: By name: ``shop``, ``files`` and ``mail``.
        mails: What was taken so far.
    """

    ports: Mapping[str, int]
    mails: Mails


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side, ready to be called.

    Args:
        name: ``floor`` or ``ours``.
        port: Where it takes calls.
        processes: Its processes by name.
        started: Seconds until each was ready.
    """

    name: str
    port: int
    processes: Mapping[str, Process]
    started: Mapping[str, float]

    def cpu(self) -> float:
        """Return the seconds of CPU that its processes have used so far."""
        return sum(_cpu(process.pid) for process in self.processes.values())

    def memory(self) -> dict[str, float]:
        """Return the resident megabytes of each process."""
        return {name: _resident(process.pid) for name, process in self.processes.items()}


class Caller:
    """A sender with a connection that stays open.

    Args:
        port: Where it calls.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, email: str) -> int:
        """Send one call about a customer and return the status of the answer."""
        body = json.dumps({"email": email}).encode()
        signature = hmac(SECRET.encode(), body, sha256).hexdigest()
        head = (
            "POST /hooks/shop HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"X-Request-Id: {email}\r\nX-Signature: {signature}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        reader, writer = await self._connection()
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(answer.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        return int(answer.split()[1])

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        return self._streams


@asynccontextmanager
async def counterparts() -> AsyncIterator[Counterparts]:
    """Start the systems around both sides."""
    process = await _start("-m", "benchmarks.counterparts", stdin=PIPE, stdout=PIPE)
    told, until = cast("asyncio.StreamReader", process.stdout), cast("asyncio.StreamWriter", process.stdin)
    mails = Mails()
    ports = json.loads(await told.readline())
    reading = asyncio.create_task(_read(told, mails))
    try:
        yield Counterparts(ports=ports, mails=mails)
    finally:
        until.close()
        await process.wait()
        await reading


@asynccontextmanager
async def floor(around: Counterparts, folder: Path) -> AsyncIterator[Side]:
    """Start the plain handler."""
    port = free_port()
    settings = {**around.ports, "port": port, "secret": SECRET, "database": str(folder / "floor.db")}
    began = time.monotonic()
    process = await _start("-m", "benchmarks.floor", json.dumps(settings))
    async with _ended([process]):
        await _warm(around, port, process)
        started = {"handler": time.monotonic() - began}
        yield Side(name="floor", port=port, processes={"handler": process}, started=started)


@asynccontextmanager
async def ours(around: Counterparts, folder: Path, *, prefect: str = "http://127.0.0.1:9/api") -> AsyncIterator[Side]:
    """Start gateway and workers, as ``orchestrator up`` does with ``[worker] processes = 2``.

    Args:
        around: What they talk to.
        folder: Where they keep their files.
        prefect: Prefect's API; without one, they serve customers all the same.
    """
    port = free_port()
    config = folder / "orchestrator.toml"
    config.touch(mode=0o600)  # others must not read its secrets
    config.write_text(CONFIG.format(folder=folder, root=ROOT, port=port, prefect=prefect, **around.ports))
    environment = {
        "ORCHESTRATOR_CONFIG": str(config),
        "ORCHESTRATOR_WEBHOOKS__SHOP__SECRETS": SECRET,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(_installed_plugin(folder))]),
    }
    processes: dict[str, Process] = {}
    started: dict[str, float] = {}
    async with asyncio.timeout(PATIENCE_SECONDS):
        for name, command in COMMANDS.items():
            began = time.monotonic()
            log = (folder / f"{name}.log").open("ab")
            processes[name] = await _start("-m", "orchestrator", *command, stderr=log, environment=environment)
            await (_listens(port, processes[name]) if name == "gateway" else _takes_runs(folder, processes, name))
            started[name] = time.monotonic() - began
    async with _ended(processes.values()):
        await _warm(around, port, processes["worker"])
        yield Side(name="ours", port=port, processes=processes, started=started)


@asynccontextmanager
async def prefect_server(folder: Path) -> AsyncIterator[str]:
    """Start a Prefect server, and return the address of its API."""
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    command = ("-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    log = (folder / "prefect.log").open("ab")
    process = await _start(*command, stderr=log, environment=server_environment(api, folder / "prefect"))
    async with _ended([process]):
        await _listens(port, process)
        yield api


def _installed_plugin(folder: Path) -> Path:
    """Write what pip would write, so that the benchmarks' connector is found like any other one."""
    installed = folder / "plugins"
    about = installed / "orchestrator_benchmarks-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: orchestrator-benchmarks\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[orchestrator.connectors]\nhttp-orders = benchmarks.orders\n")
    return installed


def new_customer() -> str:
    """Return the address of a customer whom nobody has heard of."""
    return f"c-{secrets.token_hex(8)}@example.com"


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _start(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    stdin: int = DEVNULL,
    stdout: int = DEVNULL,
    stderr: Any = None,
) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
    )


@asynccontextmanager
async def _ended(processes: Any) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                process.terminate()
        for process in processes:
            await process.wait()


async def _read(lines: asyncio.StreamReader, mails: Mails) -> None:
    while line := await lines.readline():
        mails.note(line.decode())


async def _listens(port: int, process: Process) -> None:
    while process.returncode is None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
    raise BenchmarkError(f"a process ended with {process.returncode} before it was ready")


async def _takes_runs(folder: Path, processes: Mapping[str, Process], name: str) -> None:
    """Wait until a worker waits to be woken: each has a pipe of its own then."""
    workers = len(processes) - 1
    while processes[name].returncode is None:
        if len(list(folder.glob("*.wake-*"))) == workers:  # noqa: ASYNC240 - nothing else happens meanwhile
            return
        await asyncio.sleep(0.02)
    raise BenchmarkError(f"{name} ended with {processes[name].returncode} before it was ready")


async def _warm(around: Counterparts, port: int, process: Process) -> None:
    """Serve some customers, so that what is made at first use is there."""
    await _listens(port, process)
    caller, customers = Caller(port), [new_customer() for _ in range(FIRST)]
    for customer in customers:
        if await caller.call(customer) not in (200, 202):
            raise BenchmarkError("a call was refused")
    for customer in customers:
        await around.mails.to(customer)
    caller.close()


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
