"""What imports what, read from the source: imports inside of functions and for type checking count like the others."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.support.paths import ROOT

PACKAGES = ("orchestrator", "connectors", "flows")


@cache
def sources() -> Mapping[str, ast.Module]:
    """Return the syntax tree of each module by its name; of a package, that of its ``__init__``."""
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(file.read_bytes())
        for file in files
    }


def imported(tree: ast.Module, modules: Mapping[str, ast.Module]) -> Iterator[str]:
    """Return the modules of ours that a module imports anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in modules else node.module


def circle(modules: Mapping[str, ast.Module]) -> list[str]:
    """Return the modules of one import circle; none if there is none."""
    try:
        TopologicalSorter({name: set(imported(tree, modules)) for name, tree in modules.items()}).prepare()
    except CycleError as exc:
        return list(exc.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert len(sources()) > 300
    assert circle(sources()) == []


@pytest.mark.parametrize(
    "back",
    ["import a", "def late():\n    from a import x", "if TYPE_CHECKING:\n    from a import x"],
    ids=["at the top", "inside of a function", "for type checking"],
)
def test_a_circle_is_found(back: str) -> None:
    modules = {"a": ast.parse("from b import y"), "b": ast.parse("import c"), "c": ast.parse(back)}
    assert sorted(set(circle(modules))) == ["a", "b", "c"]
