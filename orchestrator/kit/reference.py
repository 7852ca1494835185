"""Writes ``docs/plugin-reference.md`` from the code itself: ``python -m orchestrator.kit.reference > FILE``."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

import orchestrator.capabilities
import orchestrator.errors
import orchestrator.plugins.connector
from orchestrator.capabilities import Value
from orchestrator.kit.describing import described
from orchestrator.kit.documenting import arguments_told, class_described, contracts, fakes, first_paragraph
from orchestrator.kit.generating import environment
from orchestrator.plugins import API, Capability, Connector, DoubtClass, Settlement, hooks
from orchestrator.plugins.host import CAPABILITIES, CONNECTORS, PROCESSES
from orchestrator.plugins.standard import STANDARD
from orchestrator.testing.http_server import Break, FaultyServer
from orchestrator.testing.stub_server import StubServer
from orchestrator.toolkit.http import HttpSettings, HttpSystem
from orchestrator.toolkit.known_record import KnownRecord
from orchestrator.toolkit.oauth import OAuthAccess, OAuthApp, TokenEndpoint

_GROUPS = {"register_capabilities": CAPABILITIES, "register_connectors": CONNECTORS, "register_processes": PROCESSES}


def reference() -> str:
    """Write the page."""
    page = (
        environment()
        .get_template("reference/plugin-reference.md.j2")
        .render(
            api=API,
            hooks=[_hook(name, group) for name, group in _GROUPS.items()],
            capability=list(_arguments(Capability)),
            connector=list(_arguments(Connector)),
            doubts=list(_doubts()),
            capabilities=[described(name) for name in sorted(STANDARD.bindable)],
            values=[_value(each) for each in _values()],
            errors=_tree(),
            settlement=list(_arguments(Settlement)),
            http=[class_described(each) for each in (HttpSystem, KnownRecord, OAuthApp, OAuthAccess, TokenEndpoint)],
            http_settings=_value(HttpSettings),
            standin=class_described(StubServer),
            http_server=class_described(FaultyServer),
            breaks=", ".join(f"`Break.{each.name}`" for each in Break),
            contracts=contracts(),
            fakes=fakes(),
        )
    )
    return f"{page.strip()}\n"


def _hook(name: str, group: str) -> dict[str, str]:
    hook = getattr(hooks, name)
    title = (hook.__doc__ or "").partition("\n")[0]
    return {"group": group, "written": f"{name}{_bare(inspect.signature(hook))}", "title": title}


def _bare(signature: inspect.Signature) -> str:
    return str(signature).replace("'", "")


def _arguments(kind: type[Capability | Connector[Any] | Settlement]) -> Iterator[dict[str, str]]:
    told = arguments_told(kind)
    for field in dataclasses.fields(kind):
        default = "" if field.default is dataclasses.MISSING else str(field.default)
        yield {"name": field.name, "kind": str(field.type), "default": default, "told": told[field.name]}


def _doubts() -> Iterator[dict[str, str]]:
    """Read the strings below the members, which Python itself does not keep."""
    (tree,) = (
        node
        for node in ast.parse(inspect.getsource(orchestrator.plugins.connector)).body
        if isinstance(node, ast.ClassDef) and node.name == DoubtClass.__name__
    )
    written = [node.value for node in tree.body[1:] if isinstance(node, ast.Expr)]
    told = [node.value for node in written if isinstance(node, ast.Constant)]
    for member, text in zip(DoubtClass, told, strict=True):
        yield {"name": member.name, "told": str(text)}


def _values() -> list[type[Value]]:
    exported = (getattr(orchestrator.capabilities, name) for name in orchestrator.capabilities.__all__)
    return [each for each in exported if isinstance(each, type) and issubclass(each, Value) and each is not Value]


def _value(value: type[BaseModel]) -> dict[str, Any]:
    """Describe the fields of a value as they are written, inherited ones too, with the strings below them."""
    kinds: dict[str, Any] = {}
    told: dict[str, str] = {}
    for each in reversed(value.__mro__[: value.__mro__.index(BaseModel)]):
        kinds |= vars(each).get("__annotations__", {})
        told |= _strings_below(ast.parse(textwrap.dedent(inspect.getsource(each))).body[0])
    title = first_paragraph(value)
    fields = [
        {
            "name": name,
            "kind": str(kinds[name]),
            "default": "" if field.is_required() else repr(field.get_default(call_default_factory=True)),
            "told": " ".join((told.get(name) or field.description or "").split()),
        }
        for name, field in value.model_fields.items()
    ]
    return {"name": value.__name__, "title": title, "fields": fields}


def _strings_below(tree: ast.stmt) -> dict[str, str]:
    """Return the string that stands below each field of a class."""
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    return {
        field.target.id: str(text.value.value)
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


def _tree() -> str:
    return (orchestrator.errors.__doc__ or "").split("\n\n")[1].strip()


if __name__ == "__main__":
    sys.stdout.write(reference())
