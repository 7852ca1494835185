"""A process as the kernel sees it."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from orchestrator.capabilities import operations_of
from orchestrator.errors import ConfigurationError, PluginError
from orchestrator.kernel.input_errors import misfits
from orchestrator.schedule import Schedule

VERSION_DIGITS = 12
_NEED = inspect.Parameter.KEYWORD_ONLY
_executing: ContextVar[str] = ContextVar("executing")


@dataclass(frozen=True)
class ProcessDefinition:
    """A process: its name, its input, what it needs and what it does.

    Everything is resolved when it is made: what cannot work is refused before a run has done anything.

    Args:
        name: The name of the process, for example ``lost-download``.
        body: The function: one input model, then keyword-only needs.
        case_key: Tells from the input what the customer's case is known by, if there is one.
        schedule: When it runs by itself, if nothing else is configured.

    Raises:
        PluginError: The function can be no process; the message names its file and line.
    """

    name: str
    body: Callable[..., Any]
    case_key: Callable[[Any], str] | None = None
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        self._refuse_other_kinds()
        _ = self.request, self.needs, self.result, self.version

    @cached_property
    def description(self) -> str:
        """The body's docstring."""
        return inspect.getdoc(self.body) or ""

    @cached_property
    def title(self) -> str:
        """The first line of the body's docstring."""
        return (self.description or self.name).partition("\n")[0].rstrip(".")

    @cached_property
    def version(self) -> str:
        """A digest of the source of the body's module: another text is another version."""
        try:
            source = inspect.getsource(inspect.getmodule(self.body) or self.body)
        except OSError as exc:
            raise self._refusal("its source cannot be read, and with it its version; write it into a file") from exc
        return hashlib.sha256(source.encode()).hexdigest()[:VERSION_DIGITS]

    @cached_property
    def request(self) -> type[BaseModel]:
        """The model of the input."""
        forms = [self._hints.get(name) for name, kind in self._parameters.items() if kind is not _NEED]
        if len(forms) != 1 or not (isinstance(forms[0], type) and issubclass(forms[0], BaseModel)):
            raise self._refusal(
                "before the '*' stands exactly one parameter, a pydantic model of the input; its needs stand after "
                "the '*'"
            )
        self._adapter("input", forms[0])
        return forms[0]

    @cached_property
    def needs(self) -> dict[str, type]:
        """Parameter name to capability."""
        return {name: self._capability(name) for name, kind in self._parameters.items() if kind is _NEED}

    @cached_property
    def result(self) -> TypeAdapter[Any]:
        """How the result is written to the record and read from it."""
        return self._adapter("result", self._hints.get("return", type(None)))

    def read(self, request: object) -> BaseModel:
        """Return an input as the model of the process.

        Raises:
            ConfigurationError: It does not fit; the message names the fields, never a value.
        """
        try:
            return self.request.model_validate(request)
        except ValidationError as exc:
            problems = misfits(exc, self.request, authors_words=True)
            raise ConfigurationError(f"the input of process {self.name} does not fit: {problems}") from None

    def run(self, request: BaseModel, needs: Mapping[str, Any]) -> Any:
        """Call the body, marked as the process that is being executed."""
        token = _executing.set(self.name)
        try:
            return self.body(request, **needs)
        finally:
            _executing.reset(token)

    @cached_property
    def _hints(self) -> dict[str, Any]:
        try:
            return get_type_hints(self.body, include_extras=True)
        except Exception as exc:
            raise self._refusal(
                f"its annotations cannot be resolved ({type(exc).__name__}: {exc}); define and import what they name "
                "above it, and outside of `if TYPE_CHECKING`"
            ) from exc

    @cached_property
    def _parameters(self) -> dict[str, Any]:
        return {name: parameter.kind for name, parameter in inspect.signature(self.body).parameters.items()}

    def _refuse_other_kinds(self) -> None:
        if inspect.iscoroutinefunction(self.body) or inspect.isasyncgenfunction(self.body):
            raise self._refusal(f"it is async; write a plain `def {self.body.__name__}`: processes run in threads")
        if inspect.isgeneratorfunction(self.body):
            raise self._refusal("it is a generator, whose body never runs; write `return` instead of `yield`")

    def _adapter(self, what: str, hint: Any) -> TypeAdapter[Any]:
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(hint)
            adapter.rebuild()  # of a model with a field that it does not know yet, only this fails
        except (PydanticUserError, NameError, TypeError) as exc:
            why = ": ".join([type(exc).__name__, *(str(exc).splitlines()[:1] if isinstance(exc, NameError) else [])])
            raise self._refusal(
                f"its {what} {getattr(hint, '__name__', hint)} cannot be written down ({why}); make it of values that "
                "pydantic knows, defined and imported above it"
            ) from exc
        return adapter

    def _capability(self, parameter: str) -> type:
        hint = self._hints.get(parameter)
        if isinstance(hint, type) and operations_of(hint):
            return hint
        raise self._refusal(
            f"parameter {parameter} after the '*' must be typed with a capability, such as "
            "orchestrator.capabilities.Mailer"
        )

    def _refusal(self, problem: str) -> PluginError:
        code = getattr(inspect.unwrap(self.body), "__code__", None)
        place = f" ({code.co_filename}, line {code.co_firstlineno})" if code else ""
        return PluginError(f"process {self.name}{place}: {problem}")


def executing() -> str | None:
    """Return the name of the process whose body calls this, if one does."""
    return _executing.get(None)
