"""The gateway's own interface as an OpenAPI 3.1 document (spec.openapis.org), for proxies, clients and tests."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from orchestrator.gateway.refusals import Reason
from orchestrator.metrics.exposition import CONTENT_TYPE

_WHY = {
    "401": "The signature, its time or the address is wrong; an unknown address is answered in the same way.",
    "408": "The body did not come in time.",
    "409": "Another body came under the same key before.",
    "413": "The body is too large.",
    "429": "Too many calls of this webhook at once.",
    "503": "Too many calls at once, or the store fails.",
}
_RETRIED = ("429", "503")
_EITHER = ("200", "503")
_PARTS = ("ready", "hooks", "worker", "processes", "prefect")


def document() -> dict[str, Any]:
    """Return the document. It names no webhook: which there are is nobody's business."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Orchestrator gateway",
            "version": version("process-orchestrator"),
            "description": "Takes webhooks in: proven, stored, and their runs opened, before the sender is answered.",
        },
        "paths": {
            "/hooks/{path}": {"post": _hook()},
            "/live": {"get": _state("live", "Say that this process runs.", ["200"], ["live"])},
            "/ready": {"get": _state("ready", "Say whether the service does its work.", _EITHER, _PARTS)},
            "/ready/hooks": {"get": _state("readyForHooks", "Say whether calls can be accepted.", _EITHER, ["ready"])},
            "/metrics": {"get": _metrics()},
            "/openapi.json": {"get": _this()},
        },
    }


def _hook() -> dict[str, Any]:
    refusals = {status: _refusal(status, why) for status, why in _WHY.items()}
    return {
        "operationId": "receive",
        "summary": "Take a webhook in.",
        "parameters": [
            {
                "name": "path",
                "in": "path",
                "required": True,
                "description": "The name of the webhook; behind it, for senders that sign nothing, its path secret.",
                "schema": {"type": "string", "minLength": 1},
            }
        ],
        "requestBody": {"content": {"application/json": {"schema": True}}},
        "responses": {
            "200": _json("An address was confirmed to its sender.", {"type": "object"}),
            "202": _json("It is stored.", _exactly({"delivery": {"type": "string", "pattern": "^d-[0-9a-f]{24}$"}})),
            **refusals,
        },
    }


def _refusal(status: str, why: str) -> dict[str, Any]:
    reasons = {"error": {"type": "string", "enum": [str(reason) for reason in Reason]}}
    described = _json(why, _exactly(reasons))
    if status in _RETRIED:
        wait = {"description": "Seconds.", "required": True, "schema": {"type": "string", "pattern": "^[0-9]+$"}}
        described["headers"] = {"Retry-After": wait}
    return described


def _state(name: str, summary: str, statuses: Sequence[str], told: Sequence[str]) -> dict[str, Any]:
    answer = _json("It is, or not.", _exactly({part: {"type": "boolean"} for part in told}))
    return {"operationId": name, "summary": summary, "responses": dict.fromkeys(statuses, answer)}


def _metrics() -> dict[str, Any]:
    exposed = {"description": "The metrics.", "content": {CONTENT_TYPE: {"schema": {"type": "string"}}}}
    return {
        "operationId": "metrics",
        "summary": "Tell Prometheus what waits, how long things take and what went wrong.",
        "responses": {"200": exposed},
    }


def _this() -> dict[str, Any]:
    return {
        "operationId": "describe",
        "summary": "Describe this interface.",
        "responses": {"200": _json("This document.", {"type": "object"})},
    }


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _exactly(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
