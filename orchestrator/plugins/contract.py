"""What the host demands of a connector and of a process that a plug-in offers.

Each function returns what is wrong, as phrases that go on after ``connector "s3" ...``; empty if nothing is.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeGuard

from pydantic import BaseModel

from orchestrator.capabilities import HOST_CAPABILITIES, operations_of
from orchestrator.errors import PluginError
from orchestrator.plugins.capability import Capabilities
from orchestrator.plugins.connector import API, Connector
from orchestrator.plugins.effect_ids import EFFECT_ID
from orchestrator.schedule import Schedule
from orchestrator.spelling import nearest

NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
"""How connectors and processes are named: ``shop-sql``, ``lost-download``."""

_API = re.compile(r"[0-9]{1,6}\.[0-9]{1,6}")

HOST_SETTINGS = ("connector", "limits")
"""What the host itself reads in every connection's section."""


class ProcessDescription(Protocol):
    """What the host reads of a process."""

    @property
    def name(self) -> str:
        """The name that it has in the configuration."""

    @property
    def title(self) -> str:
        """What it does, in one line."""

    @property
    def needs(self) -> Mapping[str, type]:
        """Parameter name to capability."""

    @property
    def request(self) -> type[BaseModel]:
        """The model of its input."""

    @property
    def schedule(self) -> Schedule | None:
        """When it runs by itself, if nothing else is configured."""


class OfferedProcess(Protocol):
    """A process as a plug-in offers it."""

    @property
    def definition(self) -> ProcessDescription:
        """What the host reads of it."""


def connector_problems(offered: object, known: Capabilities) -> list[str]:
    """Tell what is wrong with an object that was given to ``register`` as a connector of known capabilities."""
    if not isinstance(offered, Connector):
        return [f"is {kind_of(offered)}; give register a Connector(name=..., provides=..., settings=..., build=...)"]
    problems = [
        *_name_problems(offered.name),
        *api_problems(offered.api),
        *_provides_problems(offered.provides, known),
        *_settings_problems(offered.settings),
        *_build_problems(offered.build),
    ]
    if not problems and inspect.isclass(offered.build):
        problems += connection_problems(offered.build, offered.provides)
    return problems


def process_problems(offered: object, known: Capabilities) -> list[str]:
    """Tell what is wrong with an object that was given to ``register`` as a process that needs known capabilities."""
    definition = getattr(offered, "definition", None)
    if definition is None:
        return [f"is {kind_of(offered)} without a definition; give register what @process made"]
    try:
        needs, request = definition.needs, definition.request
    except PluginError as exc:
        return [f"cannot be read: {exc}"]
    problems = _name_problems(definition.name)
    problems += [
        f"needs {name}, typed {kind_of(need)}, which is no capability; {_remedy(need, known)}"
        for name, need in needs.items()
        if not known.has(need)
    ]
    if not _is_model(request):
        problems.append(f"takes {kind_of(request)} as its input; make it a pydantic model")
    return problems


def connection_problems(connection: type, provides: tuple[type, ...]) -> list[str]:
    """Tell what a connection's class lacks for the capabilities that its connector claims."""
    operations = [(capability, name) for capability in provides for name in operations_of(capability)]
    problems = [problem for pair in operations for problem in _operation_problems(connection, *pair)]
    if not _has_method(connection, "check"):
        problems.append(f"has no method check; {connection.__name__} needs `def check(self) -> str`")
    if _has_method(connection, "settlement"):
        problems.append(
            f"has a method settlement, as of API 1.0; {connection.__name__} needs instead the attribute "
            'settlements = {"send": Settlement(doubt=...)}, by effect; install a newer version of the connector'
        )
    return problems


def _name_problems(name: object) -> list[str]:
    if isinstance(name, str) and NAME.fullmatch(name):
        return []
    return [f"has the name {name!r}; write lower-case letters, digits and hyphens, beginning with a letter"]


def api_problems(api: object) -> list[str]:
    """Tell why a plug-in of this API version cannot be used."""
    if not isinstance(api, str) or not _API.fullmatch(api):
        return [f"has the API version {api!r}; write api={API!r}, the orchestrator.plugins.API that it was written for"]
    (major, minor), (our_major, our_minor) = (tuple(map(int, each.split("."))) for each in (api, API))
    if (major, minor) > (our_major, our_minor):
        return [f"was written for API {api}, and this orchestrator has {API}; upgrade process-orchestrator"]
    if major < our_major:
        return [f"was written for API {api}, and this orchestrator has {API}; install a newer version of the connector"]
    return []


def _provides_problems(provides: object, known: Capabilities) -> list[str]:
    if not isinstance(provides, tuple | list):
        return [f"has {kind_of(provides)} as provides; write provides=(FileLinks,), a tuple of capabilities"]
    if not provides:
        return [f"offers no capability; {_remedy(None, known)}"]
    host = [known[name].protocol for name in sorted(HOST_CAPABILITIES)]
    problems = [
        f"offers {each.__name__}, which the host answers itself; leave it out" for each in host if each in provides
    ]
    return problems + [
        f"offers {kind_of(each)}, which is no capability; {_remedy(each, known)}"
        for each in provides
        if not known.has(each)
    ]


def _settings_problems(settings: object) -> list[str]:
    if not _is_model(settings):
        return [f"has {kind_of(settings)} as settings; make it a pydantic model, frozen and with extra='forbid'"]
    config, name = settings.model_config, settings.__name__
    problems = []
    if not config.get("frozen"):
        problems.append(f"has settings that can change; write class {name}(BaseModel, frozen=True, extra='forbid')")
    if config.get("extra") != "forbid":
        problems.append(f"lets misspelt settings pass; write class {name}(BaseModel, frozen=True, extra='forbid')")
    problems += [
        f"has a setting named {own}, which is the host's own; rename it in {name}"
        for own in HOST_SETTINGS
        if own in settings.model_fields
    ]
    return problems


def _build_problems(build: object) -> list[str]:
    if not callable(build):
        return [f"has {kind_of(build)} as build; give it a class or function that takes the settings"]
    try:
        inspect.signature(build).bind(object())
    except TypeError:
        return ["has a build that does not take exactly the settings; write `def __init__(self, settings)`"]
    except ValueError:
        pass  # built in, without a signature: only a call can tell
    return []


def _operation_problems(connection: type, capability: type, operation: str) -> Iterator[str]:
    demanded = vars(capability)[operation]
    claim = f"claims {capability.__name__}, but {connection.__name__}"
    wanted = f"{operation}{_written(inspect.signature(demanded))}"
    # A class that inherits from the protocol has its bodiless operations too.
    if not _has_method(connection, operation) or inspect.getattr_static(connection, operation) is demanded:
        yield f"{claim} has no method {operation}; write `def {wanted}`"
        return
    if inspect.iscoroutinefunction(getattr(connection, operation)):
        yield f"{claim}.{operation} is async; write a plain `def {operation}`: connectors are called from threads"
    offered = _signature(connection, operation)
    host_gives = {EFFECT_ID} if operations_of(capability)[operation].kind == "effect" else set()
    if offered is not None and (misfit := _misfit(inspect.signature(demanded), offered, host_gives)):
        yield f"{claim}.{operation} {misfit}; write `def {wanted}`"


def _misfit(demanded: inspect.Signature, offered: inspect.Signature, host_gives: set[str]) -> str:
    """Tell why a call that fits the demanded signature may not fit the offered one; empty if it always does."""
    own = dict(list(demanded.parameters.items())[1:])
    variadic = {parameter.kind for parameter in offered.parameters.values()}
    for place, parameter in enumerate(own.values()):
        if problem := _parameter_misfit(place, parameter, offered, variadic):
            return problem
    for name, parameter in offered.parameters.items():
        required = parameter.default is parameter.empty and parameter.kind not in _VARIADIC
        if required and name not in own and name not in host_gives:
            return f"demands a parameter {name} that nobody gives"
    return ""


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _parameter_misfit(place: int, wanted: inspect.Parameter, offered: inspect.Signature, kinds: set[Any]) -> str:
    given = offered.parameters.get(wanted.name)
    positional = wanted.kind is wanted.POSITIONAL_OR_KEYWORD
    if given is None or given.kind in _VARIADIC:
        takes_rest = wanted.VAR_KEYWORD in kinds and (not positional or wanted.VAR_POSITIONAL in kinds)
        return "" if takes_rest else f"has no parameter {wanted.name}"
    if given.kind is given.POSITIONAL_ONLY or (positional and given.kind is given.KEYWORD_ONLY):
        return f"takes {wanted.name} in another way"
    if positional and list(offered.parameters).index(wanted.name) != place:
        return f"takes {wanted.name} at another place"
    if wanted.default is not wanted.empty and given.default is given.empty:
        return f"demands {wanted.name}, which may be left out"
    return ""


def _signature(connection: type, operation: str) -> inspect.Signature | None:
    """Return the signature of a method as its caller sees it, None if Python cannot tell."""
    member = inspect.getattr_static(connection, operation)
    bound = isinstance(member, staticmethod | classmethod)
    try:
        signature = inspect.signature(getattr(connection, operation))
    except (TypeError, ValueError):
        return None
    parameters = list(signature.parameters.values())
    if not bound and parameters and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
        parameters = parameters[1:]
    return signature.replace(parameters=parameters)


def _has_method(connection: type, name: str) -> bool:
    return callable(getattr(connection, name, None))


def _written(signature: inspect.Signature) -> str:
    """Write a signature as an author would, without annotations."""
    bare = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
    return str(inspect.Signature(bare))


def _remedy(each: object, known: Capabilities) -> str:
    if inspect.isclass(each) and operations_of(each):
        return f"install the plug-in that brings it, or let it call register with a Capability of {each.__name__}"
    names = sorted(capability.protocol.__name__ for capability in known.bindable.values())
    match = nearest(each.__name__, names) if inspect.isclass(each) else None
    return f"did you mean {match}?" if match else f"the capabilities are {', '.join(names)}"


def _is_model(each: object) -> TypeGuard[type[BaseModel]]:
    return inspect.isclass(each) and issubclass(each, BaseModel)


def kind_of(each: object) -> str:
    """Say what an object is that was given in place of another."""
    if inspect.isclass(each):
        return f"the class {each.__name__}"
    return "nothing" if each is None else f"a {type(each).__name__}"
