"""Reads each connection's section through the settings model of its connector."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from orchestrator.plugins.connector import Connector
from orchestrator.plugins.host import PluginHost
from orchestrator.settings import LimitSettings, Problem, Settings, problems_in
from orchestrator.settings.section import from_json
from orchestrator.spelling import suggestion

_CONTAINER_EXPECTED = frozenset(
    {"dict_type", "frozen_set_type", "list_type", "mapping_type", "model_type", "set_type", "tuple_type"}
)


@dataclass(frozen=True)
class Configured:
    """A connection as it is configured.

    Args:
        connector: What builds it.
        settings: Its section.
        limits: Its vendor's quota, if there is one.
    """

    connector: Connector[Any]
    settings: BaseModel
    limits: LimitSettings | None = None


def configured(name: str, settings: Settings, host: PluginHost) -> Configured | list[Problem]:
    """Read the section of one connection; if anything in it is wrong, return that."""
    section = dict(settings.connections[name])
    connector_name = section.pop("connector", None)
    connectors = host.connectors()
    where = settings.where("connections", name, "connector")
    if connector_name is None:
        return [Problem(where, "is missing", f"write connector = ... with one of {', '.join(sorted(connectors))}")]
    if not isinstance(connector_name, str):
        return [Problem(where, "must be text", "write the connector's name in quotes")]
    if connector_name not in connectors:
        return [Problem(where, f'no connector "{connector_name}" is installed', _how_to_install(connector_name, host))]
    limits = _limits(name, section, settings)
    read = _validated(name, section, connectors[connector_name], settings)
    if isinstance(limits, list) or isinstance(read, list):
        return [problem for each in (limits, read) if isinstance(each, list) for problem in each]
    return Configured(connectors[connector_name], read, limits)


def _limits(name: str, section: dict[str, Any], settings: Settings) -> LimitSettings | list[Problem] | None:
    """Take the host's own part out of a connection's section."""
    given = section.pop("limits", None)
    if given is None:
        return None
    try:
        return LimitSettings.model_validate(from_json(given))
    except ValueError as exc:
        path = ("connections", name, "limits")
        if isinstance(exc, ValidationError):
            return problems_in(exc, LimitSettings, lambda place: settings.where(*place), below=path)
        return [Problem(settings.where(*path), "is no section", "write limits = {calls_per_minute = 60}")]


def _validated(
    name: str, section: dict[str, Any], connector: Connector[Any], settings: Settings
) -> BaseModel | list[Problem]:
    model, path = connector.settings, ("connections", name)
    try:
        return _read(model, settings.placed(section, model))
    except ValidationError as exc:
        return problems_in(exc, model, lambda place: settings.where(*place), below=path)
    except Exception as exc:  # noqa: BLE001 (a plug-in's validator may raise anything; its words may hold a secret)
        what = f"{model.__name__} failed with {type(exc).__name__}"
        return [Problem(settings.where(*path), what, f"report it to the authors of {connector.name}")]


def _read(model: type[BaseModel], section: Mapping[str, Any]) -> BaseModel:
    try:
        return model.model_validate(section)
    except ValidationError as exc:
        decoded = _decoded(section, exc)
        if not decoded:
            raise
    return model.model_validate({**section, **decoded})


def _decoded(section: Mapping[str, Any], error: ValidationError) -> dict[str, Any]:
    """Decode the fields that should be lists or sections and came as text, from a variable or a secret file."""
    decoded = {}
    for details in error.errors(include_url=False, include_context=False):
        field = details["loc"][0] if len(details["loc"]) == 1 else None
        if details["type"] in _CONTAINER_EXPECTED and isinstance(text := section.get(str(field)), str):
            try:
                decoded[str(field)] = json.loads(text)
            except (ValueError, RecursionError):
                continue
    return decoded


def _how_to_install(connector: str, host: PluginHost) -> str:
    known = sorted(host.connectors())
    for report in host.reports:
        if report.name == connector and report.state == "broken":
            return f"{report} is broken: {report.problem}"
        if report.name == connector and report.state == "disabled":
            return f"remove {connector} from [plugins] disabled"
    return f"{suggestion(connector, known)} (installed: {', '.join(known) or 'none'}), or install its plug-in"
