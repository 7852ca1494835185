"""A process as a flow of Prefect's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from prefect import Flow
from prefect.utilities.callables import ParameterSchema, parameter_schema
from pydantic import BaseModel

from orchestrator.capabilities import Work
from orchestrator.config_file import CONFIG_VARIABLE, find_config
from orchestrator.errors import ConfigurationError, LeaseLost, PluginError
from orchestrator.kernel.definition import ProcessDefinition, executing
from orchestrator.prefect_lane.environment import prefect_at
from orchestrator.prefect_lane.states import REFERENCE, TAG

Q = TypeVar("Q", bound=BaseModel)
N = ParamSpec("N")
R = TypeVar("R")
_NAMED = ("properties", "$defs", "definitions")
"""Below these, JSON Schemas are known by names that say nothing of what they are."""


class ProcessFlow(Flow[..., Any], Generic[Q, N, R]):
    """A Prefect flow whose body is executed by the kernel.

    Calling it executes a run in Prefect and on the record. ``body`` is the plain function, for tests:
    ``lost_download.body(request, orders=FakeOrders(...), ...)``.

    Args:
        definition: The process.
    """

    def __init__(self, definition: ProcessDefinition) -> None:
        super().__init__(
            _entry(definition),
            name=definition.name,
            version=definition.version,
            description=definition.description,
            validate_parameters=False,  # Prefect writes refused values to its log; we validate ourselves
            persist_result=False,
        )
        self.definition = definition
        self.parameters = _schema(definition)

    @property
    def body(self) -> Callable[Concatenate[Q, N], R]:
        """The process as a plain function."""
        return self.definition.body

    def work(self, request: Q) -> Work:
        """Return the order to start this process, for ``Cases.start``."""
        return Work(process=self.definition.name, request=request.model_dump_json())

    @overload  # type: ignore[override] # one input
    def __call__(self, request: Q | str) -> R: ...
    @overload
    def __call__(self, request: Q | str, **options: Any) -> Any: ...
    def __call__(self, request: Q | str, **options: Any) -> Any:
        """Execute a run in a flow run of its own, which belongs to no deployment, and return the result of the process.

        Args:
            request: The input; it goes to the record, and Prefect sees a reference alone.
            options: What any Prefect flow takes (``return_state``, ``wait_for``).

        Raises:
            PluginError: A process calls it from its body.
            LeaseLost: Another worker has the run.
        """
        from prefect import tags
        from prefect.exceptions import Abort

        from orchestrator.bootstrap import application

        if (caller := executing()) is not None:
            raise PluginError(
                f"process {caller} calls process {self.name} directly: each replay of its run would start another one; "
                f"start it as a step instead: cases.start({self.name.replace('-', '_')}.work(request))"
            )
        app = application()
        if not isinstance(request, str):
            request = REFERENCE + app.open_run(self.definition, self.definition.read(request))
        with prefect_at(app.settings), tags(TAG):
            try:
                return super().__call__(request, **options)
            except Abort as exc:
                raise LeaseLost(str(exc)) from None

    async def ato_deployment(self, name: str, **options: Any) -> Any:  # type: ignore[override] # Prefect's own
        """Make a deployment for Prefect's own workers, which knows where the configuration lies."""
        return await super().ato_deployment(name, **_with_configuration(options))

    def to_deployment(self, name: str, **options: Any) -> Any:  # type: ignore[override] # Prefect's own
        """Make a deployment for Prefect's own workers, which knows where the configuration lies."""
        return super().to_deployment(name, **_with_configuration(options))


def _with_configuration(options: dict[str, Any]) -> dict[str, Any]:
    """Have the flow runs of a deployment use our configuration, in whatever folder they are executed."""
    variables = dict(options.get("job_variables") or {})
    with suppress(ConfigurationError):  # without one here, it is for the worker's environment to name it
        variables["env"] = {CONFIG_VARIABLE: str(find_config().absolute())} | variables.get("env", {})
    return options | {"job_variables": variables}


def _entry(definition: ProcessDefinition) -> Callable[..., Any]:
    """Return the function that Prefect runs: it hands the run to the kernel."""

    def entry(request: Any) -> Any:
        from orchestrator.prefect_lane.flow_run import run_in_prefect

        return run_in_prefect(definition, request)

    entry.__name__ = definition.body.__name__
    entry.__qualname__ = definition.body.__qualname__
    entry.__module__ = definition.body.__module__
    entry.__doc__ = definition.body.__doc__
    return entry


def _form(definition: ProcessDefinition) -> Callable[..., Any]:
    """Return a function whose parameters are the form alone."""

    def form(request: Any) -> None: ...

    form.__annotations__["request"] = definition.request
    return form


def _schema(definition: ProcessDefinition) -> ParameterSchema:
    """Return the form as Prefect shows it, under the title of the process.

    Prefect answers what does not match a pattern with the pattern, and refuses blanks around it; so a form has none.
    The worker reads what was filled in, and says in a sentence what does not fit.
    """
    schema = parameter_schema(_form(definition))
    schema.properties["request"]["title"] = definition.title
    return schema.model_copy(
        update={
            "properties": _without_patterns(schema.properties),
            "definitions": _without_patterns(schema.definitions),
        }
    )


def _without_patterns(schemas: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON Schemas, by name, without their patterns."""
    return {name: _without_pattern(schema) for name, schema in schemas.items()}


def _without_pattern(schema: Any) -> Any:
    match schema:
        case list():
            return [_without_pattern(each) for each in schema]
        case dict():
            return {
                key: _without_patterns(value) if key in _NAMED else _without_pattern(value)
                for key, value in schema.items()
                if key != "pattern"
            }
        case _:
            return schema
