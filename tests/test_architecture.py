"""What imports what, read from the source: imports inside of functions and for type checking count like the others."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.support.paths import ROOT

PACKAGES = ("orchestrator", "orchestrator_connectors", "flows")
TABLES = "orchestrator.record.tables"
OWNERS = {
    "connection_state": "orchestrator.bindings.health",
    "customer_case": "orchestrator.kernel.cases",
    "effect": "orchestrator.ledger.effect_store",
    "question": "orchestrator.kernel.question_store",
    "run": "orchestrator.kernel.run_store",
}
"""The module that alone writes a table: everybody else asks it."""
READERS = {"run": {"orchestrator.kernel.run_queries", "orchestrator.kernel.queue"}}
"""Those beside it that read the table themselves."""
WRITES = {"insert", "update", "delete", "insert_if_new"}


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


def names_of(table: str, tree: ast.Module) -> set[str]:
    """Return the names under which a module imports a table."""
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == TABLES)
    return {alias.asname or alias.name for node in imports for alias in node.names if alias.name == table}


def written(tree: ast.Module) -> set[str]:
    """Return the names that ``update(name)``, ``name.update()`` and the like write."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found: set[str] = set()
    for call in calls:
        method = call.func.value if isinstance(call.func, ast.Attribute) else None
        function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if function in WRITES:
            found |= {node.id for node in [*call.args, method] if isinstance(node, ast.Name)}
    return found


@pytest.mark.parametrize("table", OWNERS)
def test_one_module_writes_a_table_and_few_read_it_themselves(table: str) -> None:
    users = {name for name, tree in sources().items() if names_of(table, tree)}
    assert users == {OWNERS[table], *READERS.get(table, ())}
    assert {name for name in users if written(sources()[name]) & names_of(table, sources()[name])} == {OWNERS[table]}


def test_the_tables_are_imported_by_name() -> None:
    """Otherwise the test above would not see who uses them."""
    assert [name for name, tree in sources().items() if TABLES in imported_whole(tree)] == []


def imported_whole(tree: ast.Module) -> set[str]:
    """Return the modules that a module imports as modules."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_hand_compiled_statements_stand_beside_their_table() -> None:
    users = {name for name, tree in sources().items() if "orchestrator.record.compiled" in imported(tree, sources())}
    outside = {name for name in users if not name.startswith("orchestrator.record.")}
    assert outside
    assert {name for name in outside if TABLES not in imported(sources()[name], sources())} == set()
