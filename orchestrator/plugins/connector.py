"""What a connector tells the host about itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from pydantic import BaseModel

from orchestrator.capabilities import Receipt
from orchestrator.errors import PluginError

S = TypeVar("S", bound=BaseModel)
API = "2.0"
"""The version of capabilities, errors and plug-in contract that connectors are written for.

The minor number grows when something is added (an operation's optional argument, a capability), the major one when
something that a connector relies on changes. A connector for the same major and an older or equal minor is loaded.
"""
FIRST_API = "2.0"


class DoubtClass(StrEnum):
    """How a doubt about an effect is settled."""

    PURE = "pure"
    """No outward change: simply done again."""
    NATURAL = "natural"
    """Repeatable as it is: the second time changes nothing."""
    NATIVE_KEY = "native-key"
    """The system takes an idempotency key: done again with the same key, while the key lives."""
    PROBE = "probe"
    """The connector can look whether it happened."""
    NONE = "none"
    """Nobody can know: a person decides."""


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """How a doubt about one effect of one connection is settled.

    Args:
        doubt: The class.
        timeout: Total time after which a call has certainly ended on our side.
        key_lifetime: ``NATIVE_KEY``: how long the system remembers the key.
        probe: ``PROBE``: called with the effect id and the effect's arguments by name; returns the
            receipt if it happened, None if it does not find it. It raises ``Unavailable`` if it cannot tell now.
            The host takes None for "it did not happen" once ``visibility_delay`` has passed, and only of a probe that
            has found an effect of the same connection that the system had confirmed; until then a person decides.
        visibility_delay: ``PROBE``: how long the system takes at most to show what it did (its index lags behind); an
            absence is believed that long after the time-out.
        exact_replay: Whether a repetition must have the rendered text of the first attempt. Not where the system
            keeps the first one whatever comes later, as with a question that was asked already.

    Raises:
        PluginError: It could settle nothing, or never.
    """

    doubt: DoubtClass
    timeout: timedelta = timedelta(seconds=60)
    key_lifetime: timedelta | None = None
    probe: Callable[..., Receipt | None] | None = None
    visibility_delay: timedelta = timedelta(0)
    exact_replay: bool = True

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise PluginError("; ".join(problems))

    def _problems(self) -> Iterator[str]:
        if not isinstance(self.doubt, DoubtClass):
            yield f"a settlement has no class {self.doubt!r}; write doubt=DoubtClass.NONE, or another member"
        if not _is_duration(self.timeout) or not self.timeout:
            yield "a settlement's timeout must be longer than nothing; write timedelta(seconds=60)"
        if not _is_duration(self.visibility_delay):
            yield "a settlement's visibility_delay must not be negative; write timedelta(seconds=90)"
        if self.key_lifetime is not None and not _is_duration(self.key_lifetime):
            yield "a settlement's key_lifetime must not be negative; write timedelta(hours=24)"
        if self.doubt is DoubtClass.NATIVE_KEY and self.key_lifetime is None:
            yield "a NATIVE_KEY settlement needs key_lifetime: how long the system remembers the key"
        if self.doubt is DoubtClass.PROBE and not callable(self.probe):
            yield "a PROBE settlement needs probe: a function that looks whether the effect happened"
        if inspect.iscoroutinefunction(self.probe):
            yield "a settlement's probe is async; write a plain function: probes are called from threads"


def _is_duration(given: object) -> bool:
    return isinstance(given, timedelta) and given >= timedelta(0)


class Connection(Protocol):
    """What every built connector has besides its capabilities.

    One that gives a capability with effects also has ``settlements``: a ``Settlement`` for each effect, by its name.

    A method that is an effect may take a keyword argument ``effect_id``: the host gives it an id that is the same each
    time that this effect is tried.
    """

    def check(self) -> str:
        """Prove the credential and see a known record.

        Returns:
            One sentence of what was seen, without secrets or personal data.

        Raises:
            ConnectorError: It does not work; the message says what to change.
        """
        ...


def lacks_nothing(_settings: BaseModel, _capability: type) -> str:
    """Say that a connection gives all capabilities of its connector, however it is configured."""
    return ""


@dataclass(frozen=True, kw_only=True)
class Connector(Generic[S]):
    """The code that gives one or more capabilities for one vendor.

    Args:
        name: What ``connector = "..."`` says in the configuration.
        provides: The capabilities, as protocol classes.
        settings: The model of the connection's section: frozen, ``extra="forbid"``.
        build: Makes a connection from settings, without I/O.
        lacks: Says what is to be added to settings so that they give a capability, as "add its section 'imap'"; empty
            if they do.
        api: The version of ``orchestrator.plugins.API`` that it was written for.
    """

    name: str
    provides: tuple[type, ...]
    settings: type[S]
    build: Callable[[S], Connection]
    lacks: Callable[[S, type], str] = lacks_nothing
    api: str = FIRST_API
