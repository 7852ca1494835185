"""What a plug-in tells the host about a capability, and all capabilities that there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from orchestrator.capabilities import HOST_CAPABILITIES
from orchestrator.errors import PluginError
from orchestrator.plugins.connector import FIRST_API


@dataclass(frozen=True, kw_only=True)
class Capability:
    """A role that a process needs and a connector gives.

    Args:
        name: What ``[bindings]`` says: ``file_links``. It goes on the record with each step.
        protocol: The class whose methods are its operations, marked with ``@query`` and ``@effect``.
        fake: Where its fake for tests is, as ``module:Class``; imported by tests alone.
        contract: Where the contract of its connectors is, as ``module:Class``; imported by tests alone.
        api: The version of ``orchestrator.plugins.API`` that it was written for.
    """

    name: str
    protocol: type
    fake: str = ""
    contract: str = ""
    api: str = FIRST_API


class Capabilities(Mapping[str, Capability]):
    """The capabilities that plug-ins brought, by the names that they have in the configuration."""

    def __init__(self, offered: Iterable[Capability]) -> None:
        self._by_name = {each.name: each for each in offered}
        self._by_protocol = {each.protocol: each for each in self._by_name.values()}

    def __getitem__(self, name: str) -> Capability:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def bindable(self) -> dict[str, Capability]:
        """Those that connectors give, without those that the host answers itself."""
        return {name: each for name, each in self._by_name.items() if name not in HOST_CAPABILITIES}

    def has(self, protocol: object) -> bool:
        """Tell whether a class is the protocol of a capability."""
        return isinstance(protocol, type) and protocol in self._by_protocol

    def of(self, protocol: type) -> Capability:
        """Return the capability of a protocol.

        Raises:
            PluginError: No plug-in brings it.
        """
        if protocol not in self._by_protocol:
            raise PluginError(
                f"no plug-in brings the capability {protocol.__name__} of {protocol.__module__}; install the package "
                "that does, or see what is wrong with it: orchestrator plugins"
            )
        return self._by_protocol[protocol]
