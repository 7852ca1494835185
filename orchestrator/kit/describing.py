"""What a template needs to know of a capability, read from the capability itself."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, get_origin

import orchestrator.capabilities
from orchestrator.capabilities import operations_of
from orchestrator.errors import ConfigurationError
from orchestrator.plugins import Capability
from orchestrator.plugins.effect_ids import EFFECT_ID
from orchestrator.plugins.host import installed_capabilities
from orchestrator.spelling import suggestion

_WORD = re.compile(r"\w+")
_PRIVATE = re.compile(r"Private\[([^\[\]]+)\]")
"""A capability's marks are no concern of a connector."""


@dataclass(frozen=True, kw_only=True)
class DescribedOperation:
    """One operation as its author would write it.

    Args:
        name: The method's name.
        kind: Whether it changes the outside world.
        title: What it does, in one line.
        parameters: As they are written, ``self`` among them.
        arguments: The names of the parameters.
        result: The type of the answer, as it is written.
        about_one: Whether it raises ``NotFound`` for the thing that it is about.
    """

    name: str
    kind: Literal["query", "effect"]
    title: str
    parameters: str
    arguments: tuple[str, ...]
    result: str
    about_one: bool

    @property
    def given(self) -> str:
        """The arguments by name, as they are handed on."""
        return ", ".join(f"{name}={name}" for name in self.arguments)

    def with_effect_id(self) -> DescribedOperation:
        """Describe the same operation as one that asks for the id of its effect."""
        star = "" if ", *, " in self.parameters else "*, "
        parameters = f"{self.parameters}, {star}{EFFECT_ID}: str | None = None"
        return replace(self, parameters=parameters, arguments=(*self.arguments, EFFECT_ID))


@dataclass(frozen=True, kw_only=True)
class DescribedCapability:
    """One capability.

    Args:
        name: As the configuration names it: ``file_links``.
        role: The class: ``FileLinks``.
        title: What it is, in one line.
        operations: In the order they are written.
        registered: The capability as its plug-in registered it.
    """

    name: str
    role: str
    title: str
    operations: tuple[DescribedOperation, ...]
    registered: Capability


def roles() -> dict[str, str]:
    """Return the capabilities that a connector can give: class name to the name in the configuration."""
    return {each.protocol.__name__: name for name, each in installed_capabilities().bindable.items()}


def described(role: str) -> DescribedCapability:
    """Describe a capability.

    Args:
        role: Its class's name, or its name in the configuration.

    Raises:
        ConfigurationError: There is none, or none that a connector gives.
    """
    known = roles()
    name = known.get(role, role)
    if name not in known.values():
        raise ConfigurationError(f'there is no capability "{role}" that a connector gives; {suggestion(role, known)}')
    registered = installed_capabilities()[name]
    kind = registered.protocol
    operations = tuple(_operation(kind, each) for each in operations_of(kind))
    return DescribedCapability(
        name=name, role=kind.__name__, title=_first_line(kind), operations=operations, registered=registered
    )


def imports_for(protocol: type, texts: Iterable[str]) -> dict[str, set[str]]:
    """Return what must be imported for annotations as a capability writes them: module to names."""
    found: dict[str, set[str]] = {}
    known = vars(sys.modules[protocol.__module__])
    for word in {word for text in texts for word in _WORD.findall(text)} & known.keys():
        value, place = known[word], protocol.__module__
        if getattr(orchestrator.capabilities, word, None) is value:
            place = orchestrator.capabilities.__name__
        elif not isinstance(value, type) and get_origin(value) is None:
            continue
        elif value.__module__.partition(".")[0] in sys.stdlib_module_names:
            place = value.__module__
        found.setdefault(place, set()).add(word)
    return found


def _operation(kind: type, name: str) -> DescribedOperation:
    function, known = vars(kind)[name], operations_of(kind)[name]
    signature = inspect.signature(function)
    own = list(signature.parameters.values())[1:]
    return DescribedOperation(
        name=name,
        kind=known.kind,
        title=known.title,
        parameters=_PRIVATE.sub(r"\1", ", ".join(["self", *_written(own)])),
        arguments=tuple(parameter.name for parameter in own),
        result=_PRIVATE.sub(r"\1", str(signature.return_annotation)),
        about_one="NotFound:" in (function.__doc__ or ""),
    )


def _written(parameters: list[inspect.Parameter]) -> Iterable[str]:
    keyword_only = False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            yield "*"
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        yield f"{parameter.name}: {parameter.annotation}{default}"


def _first_line(kind: type) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]
