"""What ``orchestrator up`` runs: our own commands, which a person can also run one by one."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.errors import ConfigurationError
from orchestrator.logs import Form
from orchestrator.metrics.sharing import VARIABLE
from orchestrator.prefect_lane.auth import SERVER_VARIABLE, auth_string, home_of, made_in
from orchestrator.settings import Settings
from orchestrator.settings.places import PREFIX

TIED = "orchestrator.service.die_with_parent"


@dataclass(frozen=True, kw_only=True)
class Child:
    """One process of the service.

    Args:
        name: What it is called.
        module: What it runs, as ``python -m`` does.
        arguments: What it is called with.
        environment: What it is told besides.
        is_ours: Whether it says by itself, and for good, why it cannot start; Prefect may be late, or away.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    is_ours: bool = True

    def command(self, tie: int, signs: int, seconds: float, form: Form) -> list[str]:
        """Return how it is started, tied to the pipe ``tie``, with its signs of life going into the pipe ``signs``."""
        tied = ["-m", TIED, str(tie), str(signs), f"{seconds:g}", self.name, form]
        return [sys.executable, *tied, self.module, *self.arguments]

    def whole_environment(self) -> dict[str, str]:
        """Return its environment."""
        inherited = {name: value for name, value in os.environ.items() if name != VARIABLE}
        if not self.is_ours:  # our configuration, which may hold secrets, is nobody else's business
            inherited = {name: value for name, value in inherited.items() if not name.startswith(PREFIX)}
        return {**inherited, **self.environment}

    def __str__(self) -> str:
        told = " ".join(f"{name}={value}" for name, value in self.environment.items() if name == "PREFECT_HOME")
        return " ".join(part for part in (told, "python -m", self.module, *self.arguments) if part)


def children_of(settings: Settings, form: Form) -> list[Child]:
    """Return the processes of a configuration, in the order in which they stop.

    Raises:
        ConfigurationError: Something else listens where Prefect's server is to be.
    """
    home = home_of(settings)
    runners = [
        _ours(f"worker-{number}", ("worker", "--only-runs"), form, home)
        for number in range(2, settings.worker.processes + 1)
    ]
    ours = [_ours("gateway", ("gateway",), form, home), _ours("worker", ("worker",), form, home), *runners]
    return [*ours, prefect_server(settings)] if settings.prefect.is_served else ours


def _ours(name: str, command: tuple[str, ...], form: Form, home: Path) -> Child:
    # Prefect's client keeps a file as well, and the user of a service may have no home.
    environment = {"PREFECT_HOME": str(home)}
    return Child(name=name, module="orchestrator", arguments=(*command, "--log", form), environment=environment)


def prefect_server(settings: Settings) -> Child:
    """Return Prefect's own server, for which an auth string is made if there is none yet.

    Raises:
        ConfigurationError: Something else listens where it is to be, or the auth string cannot be kept.
    """
    host, port = settings.prefect.address
    _refuse_taken(host, port)
    home = home_of(settings)
    return Child(
        name="prefect",
        module="orchestrator.prefect_lane.server",
        arguments=(host, str(port), settings.prefect.api_url),
        environment={"PREFECT_HOME": str(home), SERVER_VARIABLE: auth_string(settings) or made_in(home)},
        is_ours=False,
    )


def _refuse_taken(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server itself will do
            probe.bind(address)
    except OSError as exc:
        raise ConfigurationError(
            f"[prefect] api_url: Prefect's server cannot listen at {host}, port {port} ({exc.strerror}); if one runs "
            "there already, write serve = false, else another port"
        ) from exc
