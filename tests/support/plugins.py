"""Plug-ins that tests hand to a plug-in host, and the parts they are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from orchestrator.capabilities import Asset, FileLinks, Link
from orchestrator.plugins import Connector, DoubtClass, RegisterConnector, RegisterProcess, Settlement, hookimpl
from orchestrator.plugins.host import PluginHost, PluginReport


class ShelfSettings(BaseModel, frozen=True, extra="forbid"):
    folder: str = "/files"


class Shelf:
    """A whole connection."""

    def __init__(self, settings: ShelfSettings) -> None:
        self.folder = settings.folder
        self.settlements = {"link_to": Settlement(doubt=DoubtClass.PURE)}

    def exists(self, asset: Asset) -> bool:
        return True

    def link_to(self, asset: Asset, *, valid_for: timedelta) -> Link:
        return Link(asset=asset, url=f"file://{self.folder}/{asset.key}", expires_at=datetime.now(UTC) + valid_for)

    def check(self) -> str:
        return "The shelf is there."


SHELF: Connector[Any] = Connector(name="shelf", provides=(FileLinks,), settings=ShelfSettings, build=Shelf)


class Form(BaseModel):
    month: str


@dataclass
class Definition:
    name: str = "monthly-report"
    title: str = "Report"
    needs: dict[str, Any] = field(default_factory=lambda: {"files": FileLinks})
    request: Any = Form
    schedule: Any = None


@dataclass
class Process:
    definition: Any


def plugin(**functions: Callable[..., Any]) -> ModuleType:
    """Return a module with the functions as its hooks."""
    module = ModuleType("plugin")
    for name, function in functions.items():
        setattr(module, name, hookimpl(function))
    return module


def offering(*connectors: object) -> ModuleType:
    def register_connectors(register: RegisterConnector) -> None:
        for connector in connectors:
            register(connector)  # type: ignore[arg-type]

    return plugin(register_connectors=register_connectors)


def with_processes(*processes: object) -> ModuleType:
    def register_processes(register: RegisterProcess) -> None:
        for process in processes:
            register(process)

    return plugin(register_processes=register_processes)


def report_on(offered: object, name: str = "acme", *, load: str = "connectors") -> PluginReport:
    """Load a plug-in beside a sound one, which must not suffer."""
    neighbour = offering(replace(SHELF, name="neighbour"))
    host = PluginHost(extra={name: offered, "neighbour": neighbour})
    getattr(host, load)()
    assert "neighbour" in host.connectors()
    return next(each for each in host.reports if each.name == name and each.group == f"orchestrator.{load}")
