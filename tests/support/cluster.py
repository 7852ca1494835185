"""Two gateways and two workers on one PostgreSQL, beside a Prefect server on PostgreSQL and Redis."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from time import time
from typing import Any

import httpx
from sqlalchemy import select

from orchestrator.bootstrap import Application
from orchestrator.kernel.runs import RunState
from orchestrator.prefect_lane.auth import headers
from orchestrator.prefect_lane.environment import prefect_environment
from orchestrator.record.tables import run
from orchestrator.sandbox.mail_server import SENT, MailServer
from orchestrator.sandbox.object_store import ObjectStore
from orchestrator.sandbox.shop import QUERY, create_shop
from orchestrator.sandbox.systems import PASSWORD, SUPPORT, customers
from orchestrator.settings import load_settings
from tests.support.configurations import FLOWS
from tests.support.gateways import PATIENCE_SECONDS, wait_until
from tests.support.paths import ROOT
from tests.support.postgres import PostgresServer, free_port
from tests.support.webhooks import SECRET, order, signed

PRODUCTION = ROOT / "docs" / "production.md"
LEASE_SECONDS = 2
START_SECONDS = 180
"""All programs start at once; Prefect's server alone takes 10 s of CPU."""
CONFIG = f"""{FLOWS}
[worker]
lease_seconds = {LEASE_SECONDS}

[processes.alarm]
enabled = false    # nobody is notified here

[webhooks.shop]
process = "lost-download"
verify = "standard-webhooks"
secrets = ["{SECRET}"]
answers_per_day = 10_000    # two customers get all mails
input.email = "/customer/email"

[connections.shop]
connector = "shop-sql"
query = '''{QUERY}'''

[connections.files]
connector = "s3"
addressing_style = "path"
region = "{ObjectStore.region}"
bucket = "product-files"
access_key_id = "{ObjectStore.access_key_id}"
secret_access_key = "{ObjectStore.secret_access_key}"

# A call that a kill cut off is settled within seconds.
[connections.mail]
connector = "mail"
address = "{SUPPORT}"
timeout_seconds = 3
visibility_delay_seconds = 1
smtp = {{host = "127.0.0.1", security = "plain"}}

[connections.mail.imap]
host = "127.0.0.1"
security = "plain"
username = "{SUPPORT}"
password = "{PASSWORD}"
sent_folder = "{SENT}"

[bindings]
order_records = "shop"
file_links = "files"
mailer = "mail"
"""


class Cluster:
    """Everything that serves customers, each part a process of its own.

    Args:
        folder: Where configuration and logs lie.
        postgres: The database server.
        stack: Stops what was started.
    """

    def __init__(self, folder: Path, postgres: PostgresServer, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self.mail = stack.enter_context(MailServer(dict.fromkeys([SUPPORT, *customers()], PASSWORD)))
        files = stack.enter_context(ObjectStore())
        (folder / "o.toml").write_text(CONFIG)
        self.prefect = ScaledPrefect(folder, postgres.new_database())
        self.environment = {
            **os.environ,
            **prefect_environment(self.prefect.api_url),
            "ORCHESTRATOR_PREFECT__API_URL": self.prefect.api_url,
            "ORCHESTRATOR_PREFECT__AUTH_STRING": self.prefect.auth_string,
            "ORCHESTRATOR_STORE__URL": postgres.new_database(),
            "ORCHESTRATOR_STORE__KEY_FILE": str(folder / "kek"),
            "ORCHESTRATOR_CONNECTIONS__SHOP__URL": create_shop(folder / "shop.db").url,
            "ORCHESTRATOR_CONNECTIONS__FILES__ENDPOINT_URL": files.endpoint_url,
            "ORCHESTRATOR_CONNECTIONS__MAIL__SMTP__PORT": str(self.mail.smtp_port),
            "ORCHESTRATOR_CONNECTIONS__MAIL__IMAP__PORT": str(self.mail.imap_port),
        }
        self.app = Application(load_settings(folder / "o.toml", self.environment))
        self.app.record  # noqa: B018 - made before the others open it
        stack.callback(self.app.record.store.close)

    def start(self, *arguments: str, name: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start one of our programs."""
        command = ["-m", "orchestrator", *arguments, "--config", str(self._folder / "o.toml")]
        return start(self._stack, self._folder / f"{name}.log", command, {**self.environment, **environment})

    def log(self, name: str) -> str:
        """Return what a program has logged."""
        return (self._folder / f"{name}.log").read_text()

    def holds_runs(self, worker: subprocess.Popen[bytes]) -> set[str]:
        """Return the runs that a worker is executing."""
        mine = select(run.c.run_id).where(run.c.state == RunState.RUNNING, run.c.owner.contains(f"/{worker.pid}/"))
        with self.app.record.store.read() as tx:
            return set(tx.execute(mine).scalars())

    def kill_at_work(self, worker: subprocess.Popen[bytes]) -> set[str]:
        """Kill a worker in the middle of some runs; return them."""
        held: set[str] = set()

        def stands_still_at_work() -> bool:
            worker.send_signal(signal.SIGSTOP)
            held.update(self.holds_runs(worker))
            if not held:
                worker.send_signal(signal.SIGCONT)
            return bool(held)

        wait_until(stands_still_at_work)
        worker.kill()
        worker.wait()
        return held


class Gateways:
    """The gateways as a sender sees them behind a load balancer: a call that one does not answer goes to the next."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.ports = [free_port() for _ in range(number)]
        self.running = [
            cluster.start(
                "gateway",
                name=f"gateway-{n}",
                ORCHESTRATOR_GATEWAY__PORT=str(port),
                ORCHESTRATOR_GATEWAY__STATUS_PORT="0",
            )
            for n, port in enumerate(self.ports)
        ]
        self._doors = [httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) for port in self.ports]
        self._turn = count()

    def wait(self) -> None:
        """Wait until all of them take calls."""
        for door in self._doors:
            wait_until(lambda door=door: answers(door, "/ready"), START_SECONDS)  # type: ignore[misc]

    def close(self) -> None:
        """Let go of them."""
        for door in self._doors:
            door.close()

    def deliver(self, number: int, email: str) -> str:
        """Deliver until it was taken, as a sender does; return the delivery's id."""
        body = order(number).replace(f"ann{number}@example.com".encode(), email.encode())
        taken: list[str] = []

        def is_taken() -> bool:
            door = self._doors[next(self._turn) % len(self._doors)]
            headers = signed("standard-webhooks", body, time(), id_=f"m-{number}")
            try:
                answer = door.post("/hooks/shop", content=body, headers=headers)
            except httpx.HTTPError:
                return False
            if answer.status_code == 202:
                taken.append(answer.json()["delivery"])
            return bool(taken)

        wait_until(is_taken)
        return taken[0]


class ScaledPrefect:
    """Prefect's API and its services in processes of their own, as docs/production.md says.

    Args:
        folder: Where it keeps its files.
        database: The URL of an empty PostgreSQL database.
    """

    def __init__(self, folder: Path, database: str) -> None:
        self._folder = folder
        self._redis_port, self._port = free_port(), free_port()
        self.api_url = f"http://127.0.0.1:{self._port}/api"
        self._environment: Mapping[str, str] = {
            **os.environ,
            **prefect_environment(self.api_url),
            "PREFECT_HOME": str(folder / "prefect"),
            **documented(database.replace("+psycopg", "+asyncpg"), f"redis://127.0.0.1:{self._redis_port}"),
        }
        self.auth_string = self._environment["PREFECT_SERVER_API_AUTH_STRING"]
        self.headers = headers(self.auth_string)
        self._http = httpx.Client(base_url=self.api_url, headers=self.headers, timeout=PATIENCE_SECONDS)

    def start_api(self, stack: ExitStack) -> None:
        """Start Redis and the API, which makes its tables."""
        quiet = ["--save", "", "--appendonly", "no", "--dir", str(self._folder)]
        broker = ["redis-server", "--port", str(self._redis_port), "--bind", "127.0.0.1", *quiet]
        start(stack, self._folder / "redis.log", broker, self._environment, program=None)
        stack.callback(self._http.close)
        api = ["-m", "prefect", "server", "start", "--no-services", "--host", "127.0.0.1", "--port", str(self._port)]
        start(stack, self._folder / "prefect-api.log", api, self._environment)

    def start_services(self, stack: ExitStack) -> None:
        """Start the services, once the API has made the tables."""
        self.wait()
        services = ["-m", "prefect", "server", "services", "start"]
        start(stack, self._folder / "prefect-services.log", services, self._environment)

    def wait(self) -> None:
        """Wait until the API answers."""
        wait_until(lambda: answers(self._http, "/health"), START_SECONDS)

    def ask(self, path: str, body: object) -> Any:
        """Call its API."""
        return self._http.post(path, json=body).raise_for_status().json()


def documented(database: str, broker: str) -> dict[str, str]:
    """Return the environment that docs/production.md gives to Prefect's processes, for these servers."""
    (block,) = re.findall(r"```shell\n(PREFECT_.*?)```", PRODUCTION.read_text(), flags=re.DOTALL)
    lines = block.replace("redis://redis.example.com:6379", broker).splitlines()
    given = dict(line.split("=", 1) for line in lines)
    return given | {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database}


def start(
    stack: ExitStack,
    log: Path,
    command: list[str],
    environment: Mapping[str, str],
    program: str | None = sys.executable,
) -> subprocess.Popen[bytes]:
    """Start a process that is killed at the end."""
    file = stack.enter_context(log.open("wb"))
    whole = [program, *command] if program else command
    process = subprocess.Popen(whole, env=environment, cwd=log.parent, stdout=file, stderr=subprocess.STDOUT)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def answers(client: httpx.Client, path: str) -> bool:
    """Tell whether a server answers well."""
    try:
        return client.get(path).is_success
    except httpx.HTTPError:
        return False


@contextmanager
def cluster(folder: Path, postgres: PostgresServer) -> Iterator[Cluster]:
    """Start what the programs need; Prefect comes up in the background, since customers do not wait for it."""
    with ExitStack() as stack, ThreadPoolExecutor(1) as aside:
        made = Cluster(folder, postgres, stack)
        made.prefect.start_api(stack)
        services = aside.submit(made.prefect.start_services, stack)
        yield made
        services.result()
