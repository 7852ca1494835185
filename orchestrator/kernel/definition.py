"""A process as the kernel sees it."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_type_hints

from pydantic import BaseModel, TypeAdapter

from orchestrator.capabilities import CAPABILITIES
from orchestrator.errors import PluginError
from orchestrator.schedule import Schedule

VERSION_DIGITS = 12
_executing: ContextVar[str] = ContextVar("executing")


@dataclass(frozen=True)
class ProcessDefinition:
    """A process: its name, its input, what it needs and what it does.

    Args:
        name: The name of the process, for example ``lost-download``.
        body: The function: one input model, then keyword-only needs.
        case_key: Tells from the input what the customer's case is known by, if there is one.
        schedule: When it runs by itself, if nothing else is configured.
    """

    name: str
    body: Callable[..., Any]
    case_key: Callable[[Any], str] | None = None
    schedule: Schedule | None = None

    @cached_property
    def title(self) -> str:
        """The first line of the body's docstring."""
        return (inspect.getdoc(self.body) or self.name).partition("\n")[0].rstrip(".")

    @cached_property
    def version(self) -> str:
        """A digest of the source of the body's module: another text is another version."""
        source = inspect.getsource(inspect.getmodule(self.body) or self.body)
        return hashlib.sha256(source.encode()).hexdigest()[:VERSION_DIGITS]

    @cached_property
    def request(self) -> type[BaseModel]:
        """The model of the input."""
        return self._signature[0]

    @cached_property
    def needs(self) -> dict[str, type]:
        """Parameter name to capability."""
        return self._signature[1]

    @cached_property
    def result(self) -> TypeAdapter[Any]:
        """How the result is written to the record and read from it."""
        return TypeAdapter(get_type_hints(self.body, include_extras=True).get("return", type(None)))

    def run(self, request: BaseModel, needs: Mapping[str, Any]) -> Any:
        """Call the body, marked as the process that is being executed."""
        token = _executing.set(self.name)
        try:
            return self.body(request, **needs)
        finally:
            _executing.reset(token)

    @cached_property
    def _signature(self) -> tuple[type[BaseModel], dict[str, type]]:
        hints = get_type_hints(self.body, include_extras=True)
        forms, needs = [], {}
        for name, parameter in inspect.signature(self.body).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY:
                needs[name] = self._capability(name, hints.get(name))
            else:
                forms.append(hints.get(name))
        if len(forms) != 1 or not (isinstance(forms[0], type) and issubclass(forms[0], BaseModel)):
            raise PluginError(
                f"process {self.name}: before the '*' stands exactly one parameter, a pydantic model of the input; "
                "its needs stand after the '*'"
            )
        return forms[0], needs

    def _capability(self, name: str, hint: object) -> type:
        if isinstance(hint, type) and hint in CAPABILITIES.values():
            return hint
        raise PluginError(
            f"process {self.name}: parameter {name} after the '*' must be typed with a capability, one of "
            f"{', '.join(capability.__name__ for capability in CAPABILITIES.values())}"
        )


def executing() -> str | None:
    """Return the name of the process whose body calls this, if one does."""
    return _executing.get(None)
