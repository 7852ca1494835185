"""A plug-in whose author thought of nothing: it logs secrets and addresses, and fails with them in its words."""

from __future__ import annotations

import logging
from threading import Thread

from pydantic import BaseModel, SecretStr

from orchestrator.capabilities import OrderRecords, Private, Purchase, Value
from orchestrator.plugins import Connector, RegisterConnector
from orchestrator.process import RegisterProcess, hookimpl, process

log = logging.getLogger("vendor.client")


class Leak(Value):
    """What makes it leak."""

    email: Private[str]
    name: Private[str]
    how: str = "connector"


class Login(BaseModel, frozen=True, extra="forbid"):
    """A login within a section."""

    token: SecretStr


class LeakySettings(BaseModel, frozen=True, extra="forbid"):
    """Secrets of each kind."""

    password: SecretStr
    url: str
    login: Login
    keys: tuple[SecretStr, ...] = ()


class LeakyOrders:
    """Orders from a client library that talks too much."""

    def __init__(self, settings: LeakySettings) -> None:
        self._settings = settings
        self._secrets = [
            settings.password.get_secret_value(),
            settings.login.token.get_secret_value(),
            *(key.get_secret_value() for key in settings.keys),
        ]

    def purchases_of(self, email: Private[str]) -> tuple[Purchase, ...]:
        """Fail, and say everything."""
        log.error("login as %s with %s at %s", email, self._secrets, self._settings.url)
        log.warning("https://files.example.com/x.zip?X-Amz-Signature=%s", email.partition("@")[0])
        failing = Thread(target=self._fail, args=(email,), name="client")
        failing.start()
        failing.join()
        self._fail(email)
        return ()

    def _fail(self, email: str) -> None:
        try:
            {}[email]
        except KeyError as exc:
            raise RuntimeError(f"{email} was refused: {self._secrets}") from exc

    def check(self) -> str:
        """Fail as well."""
        self._fail("nobody@example.com")
        return ""


@process("leaky", case_key=lambda leak: leak.email)
def leaky(request: Leak, *, orders: OrderRecords) -> None:
    """Fail, in whichever way is wanted."""
    if request.how == "connector":
        orders.purchases_of(request.email)
    raise ValueError(f"{request.name} <{request.email}>")


@hookimpl
def register_connectors(register: RegisterConnector) -> None:
    register(Connector(name="leaky", provides=(OrderRecords,), settings=LeakySettings, build=LeakyOrders))


@hookimpl
def register_processes(register: RegisterProcess) -> None:
    register(leaky)
