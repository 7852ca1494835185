"""Describes classes and contracts for the reference, from their signatures and docstrings."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

import orchestrator.testing
import orchestrator.testing.contracts

_ARGUMENT = re.compile(r"^ +(\w+): (.+?)(?=\n +\w+: |\n\n|\Z)", re.MULTILINE | re.DOTALL)
_HOST_MODULES = frozenset({"builtin", "people"})
"""Contracts of what the host answers itself: no connector is held to them."""
_CALLABLE = re.compile(r"<(?:class|function|built-in function) (\w+)[^>]*>")
"""What a default that is called looks like in a signature."""


def class_described(kind: type) -> dict[str, Any]:
    """Describe a class: where it is, what it is made of, and what it can do."""
    told = arguments_told(kind)
    parameters = {} if getattr(kind, "_is_protocol", False) else inspect.signature(kind).parameters
    return {
        "name": kind.__name__,
        "place": kind.__module__,
        "title": first_paragraph(kind),
        "arguments": [
            {"written": _bare(parameter), "told": told.get(name, "")} for name, parameter in parameters.items()
        ],
        "methods": list(_methods(kind)),
    }


def arguments_told(kind: object) -> dict[str, str]:
    """Return what a docstring says of each argument."""
    return {name: " ".join(text.split()) for name, text in _ARGUMENT.findall(inspect.getdoc(kind) or "")}


def first_paragraph(kind: object) -> str:
    """Return the first paragraph of a docstring, in one line."""
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())


def fakes() -> list[dict[str, Any]]:
    """Describe the fakes and the views of what stands behind them."""
    found = (kind for module in _modules(orchestrator.testing) for kind in _classes(module))
    return [class_described(kind) for kind in found if kind.__name__.startswith("Fake")]


def contracts() -> list[dict[str, Any]]:
    """Describe what each contract of connectors wants to be given."""
    modules = list(_modules(orchestrator.testing.contracts))
    return [
        {
            "name": kind.__name__,
            "place": kind.__module__,
            "fixtures": list(fixtures_of(kind)),
            "views": [class_described(view) for view in _classes(module) if _is_a_view(view)],
        }
        for module in modules
        for kind in _classes(module)
        if kind.__name__.endswith("Contract") and module.__name__.rpartition(".")[2] not in _HOST_MODULES
    ]


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda each: each.name):
        if not found.ispkg:
            yield import_module(f"{package.__name__}.{found.name}")


def _classes(module: ModuleType) -> list[type]:
    mine = (each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__)
    return [each for each in mine if not each.__name__.startswith("_")]


def _is_a_view(kind: type) -> bool:
    """Whether it says what a test sees past the connection; the connection itself, its capability describes."""
    return getattr(kind, "_is_protocol", False) and not kind.__name__.endswith("Connection")


def fixtures_of(contract: type) -> Iterator[dict[str, str]]:
    """Read the fixtures of a contract as they are written: what pytest makes of them is its own."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(contract))).body
    for node in tree.body if isinstance(tree, ast.ClassDef) else []:
        if isinstance(node, ast.FunctionDef) and any(
            ast.unparse(each) == "pytest.fixture" for each in node.decorator_list
        ):
            kind = ast.unparse(node.returns) if node.returns else ""
            told = (ast.get_docstring(node) or "").partition("\n\n")[0]
            yield {"name": node.name, "kind": kind, "told": " ".join(told.split())}


def _methods(kind: type) -> Iterator[dict[str, str]]:
    for name, member in vars(kind).items():
        if name.startswith("_") or not (inspect.isfunction(member) or isinstance(member, property)):
            continue
        written = name if isinstance(member, property) else f"{name}{_without_self(member)}"
        yield {"written": written, "told": first_paragraph(member)}


def _without_self(method: Any) -> str:
    signature = inspect.signature(method)
    return _bare(signature.replace(parameters=list(signature.parameters.values())[1:]))


def _bare(written: object) -> str:
    return _CALLABLE.sub(r"\1", str(written).replace("'", ""))
