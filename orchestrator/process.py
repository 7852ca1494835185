"""What a process author uses: the ``@process`` decorator.

``@process`` makes a real Prefect flow of a function. The parameter before the ``*`` is the form that
operators fill in; the keyword-only parameters are the capabilities that the process needs, given by
the host and never part of the form. However a run is started, it is executed by the same kernel, from
and onto the record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from pydantic import BaseModel

from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.plugins import RegisterProcess, hookimpl
from orchestrator.prefect_lane.flow import ProcessFlow
from orchestrator.schedule import Schedule

Q = TypeVar("Q", bound=BaseModel)
N = ParamSpec("N")
"""The needs: what stands behind the ``*``."""
R = TypeVar("R")


class Decorator(Protocol):
    """Makes a process of a function, whatever its input is."""

    def __call__(self, body: Callable[Concatenate[Q, N], R], /) -> ProcessFlow[Q, N, R]:
        """Make it."""


@overload
def process(name: str, *, schedule: Schedule | None = None) -> Decorator: ...
@overload
def process(
    name: str, *, case_key: Callable[[Q], str], schedule: Schedule | None = None
) -> Callable[[Callable[Concatenate[Q, N], R]], ProcessFlow[Q, N, R]]: ...
def process(name: str, *, case_key: Callable[[Any], str] | None = None, schedule: Schedule | None = None) -> Any:
    """Make a process of a function.

    Args:
        name: The name of the process, a noun phrase: ``lost-download``.
        case_key: Tells from the input what the customer's case is known by, for example an address:
            ``LostDownload.case_key``, a method of the input. A lambda works, too, but no type checker can check it.
        schedule: When it runs by itself, and with what input; ``[processes.<name>.schedule]`` changes it.

    Returns:
        A decorator that returns a Prefect flow, with the types of the function.
    """

    def decorate(body: Callable[..., Any]) -> ProcessFlow[Any, ..., Any]:
        return ProcessFlow(ProcessDefinition(name=name, body=body, case_key=case_key, schedule=schedule))

    return decorate


__all__ = ["ProcessFlow", "RegisterProcess", "Schedule", "hookimpl", "process"]
