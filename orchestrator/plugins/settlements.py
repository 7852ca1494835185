"""What the host demands of the settlements that a built connection declares for its effects."""

from __future__ import annotations

import inspect
from typing import Any

from orchestrator.capabilities import operations_of
from orchestrator.errors import PluginError
from orchestrator.plugins.connector import Settlement

_HOST_ARGUMENT = "effect_id"


def settlement_problems(connection: Any, provides: tuple[type, ...]) -> list[str]:
    """Tell which effects of a connection have no settlement that could be used.

    Returns:
        Phrases that go on after ``connector "s3" ...``; empty if nothing is wrong.
    """
    effects = [
        (capability, operation.name)
        for capability in provides
        for operation in operations_of(capability).values()
        if operation.kind == "effect"
    ]
    return [problem for effect in effects if (problem := _problem(connection, *effect))]


def _problem(connection: Any, capability: type, effect: str) -> str:
    wrong = f"has no settlement for {effect}"
    try:
        settlement = connection.settlement(effect)
    except PluginError as exc:
        return f"{wrong}: {exc}"
    except Exception as exc:  # noqa: BLE001 (a plug-in may raise anything)
        return f"{wrong}: settlement raised {type(exc).__name__}; return a Settlement"
    if not isinstance(settlement, Settlement):
        return f"{wrong}: settlement returned a {type(settlement).__name__}; return a Settlement"
    if settlement.probe is not None and not _takes(settlement.probe, arguments := _arguments(capability, effect)):
        return f"{wrong}: its probe cannot be called; write `def probe(effect_id, *, {', '.join(arguments)})`"
    return ""


def _arguments(capability: type, effect: str) -> list[str]:
    """Return the names of an effect's arguments, without those that the host gives."""
    return [
        name for name in inspect.signature(vars(capability)[effect]).parameters if name not in ("self", _HOST_ARGUMENT)
    ]


def _takes(probe: Any, arguments: list[str]) -> bool:
    try:
        inspect.signature(probe).bind("effect-id", **dict.fromkeys(arguments))
    except TypeError:
        return False
    except ValueError:
        pass  # built in, without a signature: only a call can tell
    return True
