"""What the host demands of the settlements that a built connection declares for its effects."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.capabilities import operations_of
from orchestrator.errors import PluginError
from orchestrator.plugins.connector import DoubtClass, Settlement
from orchestrator.plugins.effect_ids import asks_for_effect_id
from orchestrator.spelling import suggestion


def settlement_problems(connection: Any, provides: tuple[type, ...]) -> list[str]:
    """Tell which effects of a connection have no settlement that could be used, and which settlements no effect.

    Returns:
        Phrases that go on after ``connector "s3" ...``; empty if nothing is wrong.
    """
    effects = {
        operation.name: capability
        for capability in provides
        for operation in operations_of(capability).values()
        if operation.kind == "effect"
    }
    try:
        declared = getattr(connection, "settlements", {})
    except PluginError as exc:
        return [f"has no settlements: {exc}"]
    except Exception as exc:  # noqa: BLE001 (a plug-in may raise anything)
        return [f"has no settlements: they raised {type(exc).__name__}; return a dict"]
    if not isinstance(declared, Mapping):
        return [f'has settlements that are a {type(declared).__name__}; write {{"{next(iter(effects), "send")}": ...}}']
    problems = [
        f"has no settlement for {name}{wrong}"
        for name, capability in effects.items()
        if (wrong := _wrong(declared.get(name), name, getattr(connection, name), capability))
    ]
    return problems + [
        f"has a settlement for {name}, which is no effect of it; {suggestion(str(name), effects)}"
        for name in declared
        if name not in effects
    ]


def _wrong(settlement: object, name: str, effect: Callable[..., object], capability: type) -> str:
    """Return why a settlement cannot be used for an effect; empty if it can."""
    if settlement is None:
        return f'; declare it: self.settlements = {{"{name}": Settlement(doubt=...)}}'
    if not isinstance(settlement, Settlement):
        return f": there is a {type(settlement).__name__}; write Settlement(doubt=...)"
    if settlement.doubt is DoubtClass.NATIVE_KEY and not asks_for_effect_id(effect):
        return f": {name} does not take the key; write `def {name}(..., effect_id: str | None = None)`"
    arguments = list(inspect.signature(vars(capability)[name]).parameters)[1:]
    if settlement.probe is not None and not _takes(settlement.probe, arguments):
        return f": its probe cannot be called; write `def probe(effect_id, *, {', '.join(arguments)})`"
    return ""


def _takes(probe: Any, arguments: list[str]) -> bool:
    try:
        inspect.signature(probe).bind("effect-id", **dict.fromkeys(arguments))
    except TypeError:
        return False
    except ValueError:
        pass  # built in, without a signature: only a call can tell
    return True
