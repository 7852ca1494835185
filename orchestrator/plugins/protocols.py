"""What the host demands of a capability that a plug-in offers: each call must fit on the record as a step."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, get_type_hints

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from orchestrator.capabilities import Operation, operations_of
from orchestrator.plugins.capability import Capabilities, Capability
from orchestrator.plugins.contract import api_problems, kind_of
from orchestrator.plugins.effect_ids import EFFECT_ID

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def capability_problems(offered: object, known: Capabilities) -> list[str]:
    """Tell what is wrong with an object that was given to ``register`` as a capability beside the known ones."""
    if not isinstance(offered, Capability):
        return [f"is {kind_of(offered)}; give register a Capability(name=..., protocol=...)"]
    return [*_description_problems(offered), *_protocol_problems(offered.protocol, known)]


def _description_problems(offered: Capability) -> Iterator[str]:
    if not _NAME.fullmatch(str(offered.name)):
        yield f"has the name {offered.name!r}; write lower-case letters, digits and underscores: file_links"
    yield from api_problems(offered.api)
    for what, where in (("fake", offered.fake), ("contract", offered.contract)):
        if where and not _CLASS.fullmatch(where):
            yield f"has {where!r} as {what}; write where the class is: acme_calendar.testing:CalendarContract"


def _protocol_problems(protocol: Any, known: Capabilities) -> list[str]:
    if not inspect.isclass(protocol) or not getattr(protocol, "_is_protocol", False):
        return [f"has {kind_of(protocol)} as protocol; write class Calendar(Protocol)"]
    if known.has(protocol):
        return [f"has the protocol of {known.of(protocol).name}; give it one of its own"]
    inherited = {name: base for base in protocol.__mro__[1:] for name in operations_of(base)}
    if inherited:
        name, base = min(inherited.items())
        return [f"inherits {name} from {base.__name__}; write out its operations in {protocol.__name__}"]
    if not (operations := operations_of(protocol)):
        return [f"has no operation; mark the methods of {protocol.__name__} with @query and @effect"]
    return [
        f"has the operation {each.name}, which {problem}"
        for name, each in operations.items()
        for problem in _operation_problems(vars(protocol)[name], each)
    ]


def _operation_problems(function: Any, operation: Operation) -> Iterator[str]:
    parameters = dict(list(inspect.signature(function).parameters.items())[1:])
    if inspect.iscoroutinefunction(function):
        yield f"is async; write a plain `def {operation.name}`: connectors are called from threads"
    if not operation.title:
        yield "has no docstring; its first line is the title of the step"
    if any(each.kind not in _BY_NAME for each in parameters.values()):
        yield "takes arguments without names; the record keeps each by its name"
        return
    if EFFECT_ID in parameters:
        yield f"takes {EFFECT_ID}, which no process gives; leave it out: the host gives it to connectors that name it"
    yield from _annotation_problems(function, [*parameters, "return"])
    if operation.reaches is not None:
        try:
            inspect.signature(operation.reaches).bind(**dict.fromkeys(parameters))
        except (TypeError, ValueError):
            yield f"reaches somebody; write reaches=lambda {', '.join(parameters)}: Recipient(...)"


def _annotation_problems(function: Any, annotated: list[str]) -> Iterator[str]:
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception as exc:  # noqa: BLE001 (an annotation may be any expression)
        yield f"has annotations that cannot be resolved ({type(exc).__name__}: {exc}); import what they name"
        return
    for name in annotated:
        what = "answer" if name == "return" else f"argument {name}"
        if name not in hints:
            yield f"has no annotation of its {what}; the record needs to know its type"
            continue
        try:
            TypeAdapter(hints[name])
        except (PydanticUserError, NameError, TypeError) as exc:
            yield f"has an {what} that cannot be written down ({type(exc).__name__}); make it of a Value"
