"""All systems of the story on this machine: a mail provider, a file store, a shop, a CRM, Prefect and our worker."""

from __future__ import annotations

import email
import imaplib
import json
import os
import random
import shutil
import smtplib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from email.message import EmailMessage, Message
from email.policy import default
from email.utils import make_msgid
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from orchestrator.bootstrap import Application
from orchestrator.config_file import CONFIG_VARIABLE
from orchestrator.errors import OrchestratorError
from orchestrator.prefect_lane.access import auth_string, headers
from orchestrator.private_files import private_folder
from orchestrator.sandbox.gmail import READ_AND_SEND, GmailBox, GmailServer, smtp_to
from orchestrator.sandbox.keap import KeapServer, fill
from orchestrator.sandbox.mail_server import MailServer
from orchestrator.sandbox.object_store import ObjectStore
from orchestrator.sandbox.shop import ONE_PURCHASE, OTHER_CASE, REFUNDED, THREE_PURCHASES, create_shop
from orchestrator.service.children import prefect_server
from orchestrator.settings import Settings, load_settings

SUPPORT = "support@shop.example"
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
BEGUN_ANEW = ("orchestrator.db*", "shop.db*", "*.log")
"""What an earlier start left behind; Prefect's own database stays, since making it takes longest."""


class SandboxError(OrchestratorError):
    """A part of the sandbox did not do what it should; the message says which, and where its log is."""


class Sandbox:
    """The systems, started together and stopped together.

    Args:
        data: Where databases and logs lie; the record begins anew with each start.
        config: The sandbox's configuration; addresses of the systems are handed over in the environment.
        bindings: Capability to connection, where it is to be another one than the configuration says.
        prefect_port: Where Prefect is to listen, if that port is free; 0 for any.
    """

    def __init__(
        self, data: Path, config: Path, *, bindings: Mapping[str, str] | None = None, prefect_port: int = PREFECT_PORT
    ) -> None:
        self.data = data.absolute()  # paths in the configuration count from its own folder
        self._config = config.absolute()
        self._stack = ExitStack()
        self._bindings = dict(bindings or {})
        self._gmail_box = GmailBox(SUPPORT)
        routes = {SUPPORT: self._gmail_box.deliver} if self._is_with_gmail else {}
        self.mail = MailServer(dict.fromkeys([SUPPORT, OWNER, *customers(), STRANGER], PASSWORD), routes=routes)
        self.files = ObjectStore()
        self.crm = KeapServer()
        self.prefect_url = ""
        self.gateway_url = ""
        self.status_url = ""
        self._prefect_port = free_port(prefect_port)
        self._gateway_port = free_port(GATEWAY_PORT if prefect_port else 0)
        self._status_port = free_port(STATUS_PORT if prefect_port else 0)
        self._service: subprocess.Popen[bytes] | None = None
        self._started_at = datetime.now(UTC)
        self._environment = dict(os.environ)

    def __enter__(self) -> Self:
        private_folder(self.data)
        for old in (old for pattern in BEGUN_ANEW for old in self.data.glob(pattern)):
            old.unlink()
        shutil.rmtree(self.data / "keys", ignore_errors=True)
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
        self._environment |= {
            CONFIG_VARIABLE: str(self._config),
            "ORCHESTRATOR_STORE__URL": f"sqlite:///{self.data / 'orchestrator.db'}",
            "ORCHESTRATOR_STORE__KEY_FILE": str(self.data / "keys" / "kek"),
            "ORCHESTRATOR_CONNECTIONS__SHOP__URL": shop.url,
            "ORCHESTRATOR_CONNECTIONS__CRM__BASE_URL": self.crm.base_url,
            "ORCHESTRATOR_CONNECTIONS__FILES__ENDPOINT_URL": self.files.endpoint_url,
            "ORCHESTRATOR_CONNECTIONS__SUPPORT_MAIL__SMTP__PORT": str(self.mail.smtp_port),
            "ORCHESTRATOR_CONNECTIONS__SUPPORT_MAIL__IMAP__PORT": str(self.mail.imap_port),
            **{f"ORCHESTRATOR_BINDINGS__{need.upper()}": name for need, name in self._bindings.items()},
            **self._start_gmail(),
        }

    def start_service(self) -> subprocess.Popen[bytes]:
        """Start everything of ours, and Prefect, by ``orchestrator up``, without waiting for it."""
        self._tell_addresses()
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
        section = "ORCHESTRATOR_CONNECTIONS__GMAIL__"
        moved = {
            f"{section}ENDPOINT_URL": gmail.url,
            f"{section}AUTH_URL": f"{gmail.url}/o/oauth2/v2/auth",
            f"{section}TOKEN_URL": f"{gmail.url}/token",
            f"{section}APP__TOKEN_FILE": str(token_file),
        }
        return moved | ({"ORCHESTRATOR_MAILBOXES__SUPPORT__CONNECTION": "gmail"} if self._is_with_gmail else {})

    def start_prefect(self) -> subprocess.Popen[bytes]:
        """Start the Prefect server and its UI, without waiting for it; again after a stop, at the same address."""
        self._tell_addresses()
        server = prefect_server(self.settings())
        self._environment |= {"PREFECT_HOME": server.environment["PREFECT_HOME"]}
        return self._start("prefect", ["-m", server.module, *server.arguments], server.environment)

    def _tell_addresses(self) -> None:
        self.prefect_url = f"http://127.0.0.1:{self._prefect_port}"
        self.gateway_url = f"http://127.0.0.1:{self._gateway_port}"
        self.status_url = f"http://127.0.0.1:{self._status_port}"
        self._environment |= {
            "ORCHESTRATOR_PREFECT__API_URL": f"{self.prefect_url}/api",
            "ORCHESTRATOR_GATEWAY__PORT": str(self._gateway_port),
            "ORCHESTRATOR_GATEWAY__STATUS_PORT": str(self._status_port),
            "ORCHESTRATOR_SERVICE__DATA": str(self.data),
        }

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start our worker, without waiting for it."""
        return self._start("worker", ["-m", "orchestrator", "worker"])

    def log(self, name: str) -> str:
        """Return what a process has logged so far."""
        return (self.data / f"{name}.log").read_text()

    def settings(self) -> Settings:
        """Return the configuration as our programs read it."""
        return load_settings(self._config, self._environment)

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
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = sender, SUPPORT, subject
        mail["Message-ID"] = make_msgid(domain="mail.example.com")
        mail.set_content(text)
        with smtplib.SMTP("127.0.0.1", self.mail.smtp_port) as smtp:
            smtp.send_message(mail)

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
