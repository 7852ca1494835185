"""The three hooks of a plug-in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pluggy

if TYPE_CHECKING:
    from orchestrator.plugins.capability import Capability
    from orchestrator.plugins.connector import Connector

PROJECT = "orchestrator"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class RegisterCapability(Protocol):
    """Offer one capability; it is validated at once, and a mistake is reported with the plug-in's name."""

    def __call__(self, capability: Capability) -> None:
        """Offer it."""


class RegisterConnector(Protocol):
    """Offer one connector; it is validated at once, and a mistake is reported with the plug-in's name."""

    def __call__(self, connector: Connector[Any]) -> None:
        """Offer it."""


class RegisterProcess(Protocol):
    """Offer one process, as the ``@process`` decorator made it."""

    def __call__(self, process: object) -> None:
        """Offer it."""


@hookspec
def register_capabilities(register: RegisterCapability) -> None:
    """Call ``register`` with each capability of the plug-in."""


@hookspec
def register_connectors(register: RegisterConnector) -> None:
    """Call ``register`` with each connector of the plug-in."""


@hookspec
def register_processes(register: RegisterProcess) -> None:
    """Call ``register`` with each process of the plug-in."""
