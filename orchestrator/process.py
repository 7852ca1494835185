"""What a process author uses: the ``@process`` decorator.

``@process`` makes a real Prefect flow of a function. The parameter before the ``*`` is the form that
operators fill in; the keyword-only parameters are the capabilities that the process needs, given by
the host and never part of the form. However a run is started, it is executed by the same kernel, from
and onto the record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.plugins import RegisterProcess, hookimpl
from orchestrator.prefect_lane.flow import ProcessFlow
from orchestrator.schedule import Schedule

R = TypeVar("R")


def process(
    name: str, *, case_key: Callable[[Any], str] | None = None, schedule: Schedule | None = None
) -> Callable[[Callable[..., R]], ProcessFlow[..., R]]:
    """Make a process of a function.

    Args:
        name: The name of the process, a noun phrase: ``lost-download``.
        case_key: Tells from the input what the customer's case is known by, for example an address.
        schedule: When it runs by itself, and with what input; ``[processes.<name>.schedule]`` changes it.

    Returns:
        A decorator that returns a Prefect flow.
    """

    def decorate(body: Callable[..., R]) -> ProcessFlow[..., R]:
        return ProcessFlow(ProcessDefinition(name=name, body=body, case_key=case_key, schedule=schedule))

    return decorate


__all__ = ["ProcessFlow", "RegisterProcess", "Schedule", "hookimpl", "process"]
