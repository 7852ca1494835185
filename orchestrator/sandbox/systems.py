"""All systems of the story on this machine: a mail provider, a file store, a shop, a CRM, Prefect and our worker."""

from __future__ import annotations

import email
import imaplib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from email.message import Message
from email.policy import default
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from orchestrator.bootstrap import Application
from orchestrator.config_file import CONFIG_VARIABLE
from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.kit.starting import PROJECT
from orchestrator.prefect_lane.auth import auth_string, headers
from orchestrator.private_files import private_file
from orchestrator.sandbox.configuration import PACKAGED, as_toml, moved
from orchestrator.sandbox.customer import SUPPORT, write
from orchestrator.sandbox.gmail import READ_AND_SEND, GmailBox, GmailServer, smtp_to
from orchestrator.sandbox.keap import KeapServer, fill
from orchestrator.sandbox.mail_server import MailServer
from orchestrator.sandbox.object_store import ObjectStore
from orchestrator.sandbox.shop import ONE_PURCHASE, OTHER_CASE, REFUNDED, THREE_PURCHASES, create_shop
from orchestrator.service.children import prefect_server
from orchestrator.service.lock import locked
from orchestrator.settings import PluginSettings, Settings, load_settings
from orchestrator.settings.places import PREFIX

OWNER = "owner@shop.example"
STRANGER = "stranger@example.com"
PASSWORD = "sandbox-password"
PREFECT_PORT = 4200
GATEWAY_PORT = 8080
STATUS_PORT = 8081
START_SECONDS = 120.0
STOP_SECONDS = 10.0
LOOK_SECONDS = 0.1
CALL_SECONDS = 20.0
QUIET_PORTS = range(20_000, 30_000)
TRIES = 50
BEGUN_ANEW = ("orchestrator.db*", "shop.db*", "*.log", "prefect/prefect.db*")
"""What an earlier start left behind."""
CONFIG_FILE = "orchestrator.toml"
"""The configuration of a start, in the data folder: with it, every command works beside the sandbox."""


class SandboxError(OrchestratorError):
    """A part of the sandbox did not do what it should; the message says which, and where its log is."""


class Sandbox:
    """The systems, started together and stopped together.

    Args:
        data: Where databases and logs lie; the record, and what Prefect shows, start from scratch each time.
        config: Another configuration than the packaged one. With the places of the systems it is written into ``data``.
        bindings: Capability to connection, where it is to be another one than the configuration says.
        plugins: Where the processes come from; without it, from what ``orchestrator init`` writes.
        prefect_port: Where Prefect is to listen, if that port is free; 0 for any.
    """

    def __init__(
        self,
        data: Path,
        config: Path = PACKAGED,
        *,
        bindings: Mapping[str, str] | None = None,
        plugins: PluginSettings | None = None,
        prefect_port: int = PREFECT_PORT,
    ) -> None:
        self.data = data.absolute()
        self.config = self.data / CONFIG_FILE
        self._template = config
        self._stack = ExitStack()
        self._bindings = dict(bindings or {})
        self._plugins = plugins or PluginSettings(modules=("flows",), folder=PROJECT)
        self._gmail_box = GmailBox(SUPPORT)
        routes = {SUPPORT: self._gmail_box.deliver} if self._is_with_gmail else {}
        self.mail = MailServer(dict.fromkeys([SUPPORT, OWNER, *customers(), STRANGER], PASSWORD), routes=routes)
        self.files = ObjectStore()
        self.crm = KeapServer()
        self._prefect_port = free_port(prefect_port)
        self._gateway_port = free_port(GATEWAY_PORT if prefect_port else 0)
        self.prefect_url = f"http://127.0.0.1:{self._prefect_port}"
        self.gateway_url = f"http://127.0.0.1:{self._gateway_port}"
        self._status_port = free_port(STATUS_PORT if prefect_port else 0)
        self.status_url = f"http://127.0.0.1:{self._status_port}"
        self._service: subprocess.Popen[bytes] | None = None
        self._started_at = datetime.now(UTC)
        # What is exported for another installation is none of the sandbox's business.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        self._environment = {**inherited, CONFIG_VARIABLE: str(self.config)}

    def __enter__(self) -> Self:
        begin_anew(self.data)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start_systems(self) -> None:
        """Start the mail provider, the file store, the shop and the CRM, and tell our configuration where they are."""
        for system in (self.mail, self.files, self.crm):
            self._stack.enter_context(system)
        fill(self.crm.crm)
        shop = create_shop(self.data / "shop.db")
        places = {
            "store.url": f"sqlite:///{self.data / 'orchestrator.db'}",
            "store.key_file": str(self.data / "keys" / "kek"),
            "connections.shop.url": shop.url,
            "connections.crm.base_url": self.crm.base_url,
            "connections.files.endpoint_url": self.files.endpoint_url,
            "connections.support_mail.smtp.port": self.mail.smtp_port,
            "connections.support_mail.imap.port": self.mail.imap_port,
            "mailboxes.support.connection": "gmail" if self._is_with_gmail else "support_mail",
            "prefect.api_url": f"{self.prefect_url}/api",
            "gateway.port": self._gateway_port,
            "gateway.status_port": self._status_port,
            "service.data": str(self.data),
            "plugins.modules": list(self._plugins.modules),
            "plugins.folder": str(self._plugins.folder),
            "plugins.disabled": list(self._plugins.disabled),
            **{f"bindings.{need}": name for need, name in self._bindings.items()},
            **self._start_gmail(),
        }
        _write_private(self.config, as_toml(moved(tomllib.loads(self._template.read_text()), places)))

    def start_service(self) -> subprocess.Popen[bytes]:
        """Start everything of ours, and Prefect, by ``orchestrator up``, without waiting for it."""
        self._service = self._start("up", ["-m", "orchestrator", "up"])
        return self._service

    def refuse_dead_service(self) -> None:
        """Do nothing, unless the service has ended.

        Raises:
            SandboxError: It has; its log says why.
        """
        if self._service is not None and self._service.poll() is not None:
            raise SandboxError(f"orchestrator up has ended; see {self.data / 'up.log'}")

    @property
    def _is_with_gmail(self) -> bool:
        """Whether the support address lies with Gmail, and not with the mail provider."""
        return self._bindings.get("mailer") == "gmail"

    def _start_gmail(self) -> dict[str, str]:
        gmail = self._stack.enter_context(GmailServer(self._gmail_box, deliver=smtp_to(self.mail.smtp_port)))
        token_file = self.data / "tokens" / "gmail"
        gmail.consents.grant_into(token_file, *READ_AND_SEND)
        return {
            "connections.gmail.endpoint_url": gmail.url,
            "connections.gmail.auth_url": f"{gmail.url}/o/oauth2/v2/auth",
            "connections.gmail.token_url": f"{gmail.url}/token",
            "connections.gmail.app.token_file": str(token_file),
        }

    def start_prefect(self) -> subprocess.Popen[bytes]:
        """Start the Prefect server and its UI, without waiting for it; again after a stop, at the same address."""
        server = prefect_server(self.settings())
        self._environment |= {"PREFECT_HOME": server.environment["PREFECT_HOME"]}
        return self._start("prefect", ["-m", server.module, *server.arguments], server.environment)

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start our worker, without waiting for it."""
        return self._start("worker", ["-m", "orchestrator", "worker"])

    def log(self, name: str) -> str:
        """Return what a process has logged so far."""
        return (self.data / f"{name}.log").read_text()

    def settings(self) -> Settings:
        """Return the configuration as our programs read it."""
        return load_settings(self.config, self._environment)

    def application(self) -> Application:
        """Return our application as the worker has it."""
        return Application(self.settings())

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Call our command line."""
        command = [sys.executable, "-m", "orchestrator", *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own command

    def wait_for_prefect(self) -> None:
        """Wait until the Prefect server answers."""
        self._wait("prefect", lambda: self.ask_prefect("GET", "/health"))

    def wait_for_worker(self) -> None:
        """Wait until the worker has registered the processes and is there for Prefect."""
        self._wait("worker", self._worker_is_there)

    def _worker_is_there(self) -> bool:
        pools = self.ask_prefect("POST", "/work_pools/filter", {}) or []
        if "orchestrator" not in [pool["name"] for pool in pools]:
            return False
        workers = self.ask_prefect("POST", "/work_pools/orchestrator/workers/filter", {}) or []
        return any(datetime.fromisoformat(found["last_heartbeat_time"]) > self._started_at for found in workers)

    def write_mail(self, sender: str, subject: str, text: str) -> None:
        """Write to the support address as a customer."""
        write(self.mail.smtp_port, sender, subject, text)

    def newest_mail(self, address: str) -> Message | None:
        """Return the newest mail as it lies in somebody's mailbox."""
        with imaplib.IMAP4("127.0.0.1", self.mail.imap_port) as imap:
            imap.login(address, PASSWORD)
            _, (count, *_) = imap.select("INBOX", readonly=True)
            if not count or int(count) == 0:
                return None
            _, parts = imap.fetch(count.decode(), "(BODY.PEEK[])")
        raw: Any = parts[0]
        return email.message_from_bytes(raw[1], policy=default)

    def ask_prefect(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Call Prefect's API.

        Returns:
            What it answers; None if there is no answer, or it is busy.

        Raises:
            SandboxError: It refuses; the message says why.
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - our own server on this machine
            f"{self.prefect_url}/api{path}",
            data,
            {"Content-Type": "application/json", **headers(auth_string(self.settings()))},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=CALL_SECONDS) as answer:  # noqa: S310 - as above
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as exc:
            if exc.code == HTTPStatus.SERVICE_UNAVAILABLE:  # its SQLite is busy
                return None
            said = exc.read().decode(errors="replace")
            raise SandboxError(f"Prefect refuses {method} {path}: {exc.code} {said}") from exc
        except OSError:
            return None

    def _start(
        self, name: str, arguments: list[str], environment: Mapping[str, str] = MappingProxyType({})
    ) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context((self.data / f"{name}.log").open("ab"))
        command, given = [sys.executable, *arguments], {**self._environment, **environment}
        process = subprocess.Popen(command, env=given, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603 - our own commands
        self._stack.callback(_stop, process)
        return process

    def _wait(self, name: str, answers: Callable[[], Any]) -> None:
        if not wait_until(answers, START_SECONDS):
            raise SandboxError(f"{name} is not there after {START_SECONDS:.0f} s; see the logs in {self.data}")


def begin_anew(data: Path) -> None:
    """Remove what an earlier start of a sandbox left behind in its folder.

    Raises:
        ConfigurationError: A sandbox is at work there, or it is another installation's folder.
    """
    if any((data / name).exists() for name in (CONFIG_FILE, "orchestrator.db")) and not (data / "shop.db").exists():
        raise ConfigurationError(
            f"{data} is another installation's, and a sandbox starts from scratch in its folder: name another folder"
        )
    with locked(data):
        for old in (old for pattern in BEGUN_ANEW for old in data.glob(pattern)):
            old.unlink()
        shutil.rmtree(data / "keys", ignore_errors=True)


def _write_private(file: Path, text: str) -> None:
    private_file(file)
    file.write_text(text, encoding="utf-8")


def customers() -> list[str]:
    """Return the shop's customers' addresses."""
    return [ONE_PURCHASE, THREE_PURCHASES, REFUNDED, OTHER_CASE]


def wait_until(condition: Callable[[], Any], seconds: float) -> Any:
    """Return what the condition gives as soon as it gives something, or None after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            return None
        time.sleep(LOOK_SECONDS)
    return found


def free_port(wanted: int) -> int:
    """Return the wanted port if it is free on this machine, else any that is.

    It is one below those that the system gives to whoever asks for any port: nobody takes it in the meantime.
    """
    for port in (wanted, *random.sample(QUIET_PORTS, TRIES)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server itself will do
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                if port:
                    return port
    raise SandboxError("no free port on 127.0.0.1")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
