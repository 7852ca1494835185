"""The connections of one application: configured, built when first needed, and found by what they answer."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from threading import Lock
from typing import Any

from orchestrator.bindings.compatibility import Compatibility
from orchestrator.bindings.sections import Configured, configured
from orchestrator.capabilities import HOST_CAPABILITIES
from orchestrator.errors import ConfigurationError, OrchestratorError, PluginError
from orchestrator.logs import hide
from orchestrator.plugins.capability import Capability
from orchestrator.plugins.connector import Connector
from orchestrator.plugins.contract import OfferedProcess, connection_problems
from orchestrator.plugins.host import PluginHost
from orchestrator.plugins.settlements import settlement_problems
from orchestrator.settings import HOST, LimitSettings, Problem, Settings, configuration_error, secrets_in
from orchestrator.spelling import suggestion


def connect(settings: Settings, host: PluginHost) -> Connections:
    """Read each connection's section through its connector's settings model; nothing is built or reached yet.

    The log of this program never shows the secrets found.

    Raises:
        ConfigurationError: A section is written wrongly; each problem is a line of the message.
    """
    found = {name: configured(name, settings, host) for name in settings.connections}
    if problems := [problem for each in found.values() if isinstance(each, list) for problem in each]:
        raise configuration_error(problems)
    sections = {name: each for name, each in found.items() if isinstance(each, Configured)}
    if problems := [
        problem for name, each in sections.items() for problem in settings.exposed(each.settings, "connections", name)
    ]:
        raise configuration_error(problems)
    hide(secret for each in sections.values() for secret in secrets_in(each.settings))
    return Connections(settings, host, sections)


class Connections:
    """The systems, by the names they have in the configuration. Made by ``connect``."""

    def __init__(self, settings: Settings, host: PluginHost, sections: Mapping[str, Configured]) -> None:
        self._settings = settings
        self._host = host
        self._sections = dict(sections)
        self._built: dict[str, Any] = {}
        self._building = Lock()
        self._compatibility = Compatibility(settings, sections, host)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sections)

    def get(self, name: str) -> Any:
        """Return a connection, built at its first use.

        Raises:
            ConfigurationError: There is none of that name, or what it is told cannot work.
            PluginError: Its connector cannot build it, or builds something that breaks the contract.
        """
        section = self._section(name)
        with self._building:
            if name not in self._built:
                self._built[name] = self._build(name, section)
            return self._built[name]

    def connector_of(self, name: str) -> Connector[Any]:
        """Return the connector of a connection.

        Raises:
            ConfigurationError: There is none of that name.
        """
        return self._section(name).connector

    def capabilities_of(self, name: str) -> list[Capability]:
        """Return the capabilities that a connection's connector gives; else as ``connector_of``."""
        return [self._host.capabilities().of(protocol) for protocol in self.connector_of(name).provides]

    def limits_of(self, name: str) -> LimitSettings | None:
        """Return the quota of a connection's vendor, if one is configured.

        Raises:
            ConfigurationError: There is none of that name.
        """
        return self._section(name).limits

    def section_of(self, name: str) -> Mapping[str, Any]:
        """Return the section of a connection as it is configured, with its secrets and without its limits.

        Raises:
            ConfigurationError: There is none of that name.
        """
        self._section(name)
        return {key: value for key, value in self._settings.connections[name].items() if key != "limits"}

    def version_of(self, name: str) -> str:
        """Return which package, in which version, a connection's connector comes from; it goes on the record.

        Raises:
            ConfigurationError: There is none of that name.
        """
        owner = self._host.owner_of(self.connector_of(name).name)
        return f"{owner.distribution} {owner.version}".strip()

    def connection_for(self, process: str, capability: str) -> str:
        """Return the connection that answers a capability for a process; ``host`` if the host answers itself.

        Raises:
            ConfigurationError: No connection is bound to it, or the bound one cannot answer it.
        """
        if capability in HOST_CAPABILITIES:
            return HOST
        if (bound := self._compatibility.binding(process, capability)) is None:
            raise configuration_error([self._compatibility.unbound(process, capability)])
        path, connection = bound
        if problem := self._compatibility.binding_problem(path, connection):
            raise configuration_error([problem])
        return connection

    def hindrance(self, process: str, capabilities: Iterable[str]) -> str:
        """Return why the configuration lets no run of a process be executed, or nothing; nothing is built.

        Args:
            process: Its name.
            capabilities: The names of those that it needs.
        """
        try:
            for capability in capabilities:
                self.connection_for(process, capability)
        except ConfigurationError as exc:
            return str(exc)
        return ""

    def compatibility(self, processes: Mapping[str, OfferedProcess]) -> list[Problem]:
        """Find everything in the configuration that does not fit together.

        Args:
            processes: All processes that the plug-ins offer, those that are switched off too.
        """
        return self._compatibility.problems(processes)

    def slower_than(self, lease: timedelta) -> list[str]:
        """Name the connections whose calls may take longer than a lease, and what to do about it."""
        limits = {name: getattr(each.settings, "timeout_seconds", 0) for name, each in self._sections.items()}
        seconds = lease.total_seconds()
        return [
            f"connection {name}: a call may take {limit:g} s (timeout_seconds), longer than a lease ([worker] "
            f"lease_seconds = {seconds:g}): a worker that stands still in one loses its run to another, which asks "
            "again; let lease_seconds be the longer one"
            for name, limit in limits.items()
            if limit > seconds
        ]

    def webhook_problems(self, processes: Mapping[str, OfferedProcess]) -> list[Problem]:
        """Find everything about webhooks that does not fit together.

        Args:
            processes: All processes that the plug-ins offer, those that are switched off too.
        """
        return list(self._compatibility.webhook_problems(processes))

    def _section(self, name: str) -> Configured:
        if name not in self._sections:
            raise ConfigurationError(f'there is no connection "{name}"; {suggestion(name, self._sections)}')
        return self._sections[name]

    def _build(self, name: str, section: Configured) -> Any:
        connector = section.connector
        where, owner = self._settings.where("connections", name), self._host.owner_of(connector.name)
        try:
            connection = connector.build(section.settings)
        except ConfigurationError as exc:
            raise ConfigurationError(f"{where}: {exc}") from exc
        except PluginError as exc:
            raise PluginError(f'{where}: {owner}: connector "{connector.name}" cannot be built: {exc}') from exc
        except OrchestratorError:
            raise
        except Exception as exc:
            # The words of a client library may repeat a credential; its name and the traceback are enough.
            what = f'connector "{connector.name}" failed to build it with {type(exc).__name__}'
            raise PluginError(f"{where}: {owner}: {what}; report it to the connector's authors") from exc
        if problems := _contract_problems(connector, connection):
            raise PluginError(f'{where}: {owner}: connector "{connector.name}" {"; ".join(problems)}')
        return connection


def _contract_problems(connector: Connector[Any], connection: Any) -> list[str]:
    """Check what only a built connection shows: the class behind a function, and a settlement for each effect."""
    if not inspect.isclass(connector.build) and (problems := connection_problems(type(connection), connector.provides)):
        return problems
    return settlement_problems(connection, connector.provides)
