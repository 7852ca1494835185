"""Packages to begin with: a capability, a connector or a process that installs and passes its own tests at once."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from orchestrator.errors import ConfigurationError
from orchestrator.kit.describing import DescribedCapability, DescribedOperation, described, imports_for
from orchestrator.kit.documenting import fixtures_of
from orchestrator.plugins import API
from orchestrator.plugins.contract import NAME
from orchestrator.plugins.effect_ids import asks_for_effect_id
from orchestrator.plugins.host import installed_capabilities

_SUFFIX = ".j2"
_TESTING = "orchestrator.testing"
_LINE = 120
_TAKEN = ("http",)
"""Its settings would be called as those that they inherit from."""
_PIECES = "/_"
"""Templates that are parts of others lie in directories that begin so."""


@dataclass(frozen=True)
class _Tested:
    """How the tests of a capability of ours are written; those of others have a fake that is its own view.

    Args:
        view: What the contract sees of the fake, of ``orchestrator.testing.fake_backends``.
        example: Arguments of the first effect.
        values: What the samples in the tests are made of.
    """

    view: str = ""
    example: str = ""
    values: tuple[str, ...] = ()


_TESTED: Mapping[str, _Tested] = {
    "FileLinks": _Tested("FakeStore", "PRESENT, valid_for=timedelta(hours=1)", ("Asset",)),
    "OrderRecords": _Tested(values=("Asset", "Purchase")),
    "Mailer": _Tested("FakePost", 'OutgoingMail(to=ANN, subject="s", text="t"), effect_id="f-1"'),
    "Mailbox": _Tested("FakeLetterbox"),
    "Contacts": _Tested("FakeCards", 'ANN, "lost-download"'),
    "Notifier": _Tested("FakeReaders", 'Notice(title="2 runs wait"), effect_id="f-1"'),
}


def new_connector(name: str, provides: Sequence[str], into: Path) -> list[Path]:
    """Write the package of a connector.

    Args:
        name: What ``connector = "..."`` will say in the configuration.
        provides: The capabilities that it is to give.
        into: Where the package's directory is made.

    Returns:
        The files that were written.

    Raises:
        ConfigurationError: The name or a capability is none, or the directory is there already.
    """
    capabilities = [described(role) for role in dict.fromkeys(provides)]
    if not capabilities:
        raise ConfigurationError("a connector gives one capability or more; write --provides FileLinks")
    return _write("connector", _checked(name), into, {**_connector_words(capabilities), **_test_words(capabilities)})


def new_capability(name: str, into: Path) -> list[Path]:
    """Write the package of a capability, with its fake and its contract.

    Args:
        name: What it is to be called, as in ``calendar`` or ``room-booking``.
        into: Where the package's directory is made.

    Returns:
        The files that were written.

    Raises:
        ConfigurationError: The name is none or taken, or the directory is there already.
    """
    if (config_name := _checked(name).replace("-", "_")) in installed_capabilities():
        raise ConfigurationError(f"there is a capability {config_name} already; choose another name")
    return _write("capability", name, into, {})


def new_process(name: str, into: Path) -> list[Path]:
    """Write the package of a process.

    Args:
        name: A noun phrase: ``refund-request``.
        into: Where the package's directory is made.

    Returns:
        The files that were written.

    Raises:
        ConfigurationError: The name is none, or the directory is there already.
    """
    return _write("process", _checked(name), into, {})


def _checked(name: str) -> str:
    if name in _TAKEN:
        raise ConfigurationError(f"{name!r} is what our own part for connectors is called; name it after the vendor")
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} cannot be the name; write lower-case letters, digits and hyphens, beginning with a letter"
        )
    return name


def _connector_words(capabilities: Sequence[DescribedCapability]) -> dict[str, object]:
    operations = [operation for each in capabilities for operation in _operations(each)]
    effects = [each for each in operations if each.kind == "effect"]
    settlements = [getattr(_fake(each), "settlements", {}) for each in capabilities]
    doubts = {effect: settlement.doubt.name for each in settlements for effect, settlement in each.items()}
    annotations = [text for each in operations for text in (each.parameters, each.result)]
    imported = {
        "orchestrator.plugins": {"Connector", "RegisterConnector", "hookimpl"},
        "orchestrator.toolkit.documents": set(_documents_used(operations, doubts)),
        "orchestrator.toolkit.http": {"HttpSettings", "HttpSystem"},
        "pydantic": {"SecretStr"},
    }
    if effects:
        imported["orchestrator.plugins"] |= {"DoubtClass", "Settlement"}
    if "PROBE" in doubts.values():
        imported["orchestrator.capabilities"] = {"Receipt"}
    if any(each.role == "OrderRecords" for each in capabilities):
        imported["orchestrator.toolkit.known_record"] = {"KnownRecord"}
    for each in capabilities:
        for module, names in imports_for(each.registered.protocol, [*annotations, each.role]).items():
            imported.setdefault(module, set()).update(names)
    standard = {module: names for module, names in imported.items() if module in sys.stdlib_module_names}
    return {
        "capabilities": capabilities,
        "operations": operations,
        "effects": effects,
        "doubts": doubts,
        "standard": _import_lines(standard),
        "imported": _import_lines({module: names for module, names in imported.items() if module not in standard}),
    }


def _documents_used(operations: Sequence[DescribedOperation], doubts: Mapping[str, str]) -> list[str]:
    asks = "PROBE" in doubts.values() or any(each.kind == "query" and each.arguments for each in operations)
    return ["document"] * bool(doubts) + ["in_query"] * asks + ["value_of"]


def _test_words(capabilities: Sequence[DescribedCapability]) -> dict[str, object]:
    roles = [each.role for each in capabilities]
    tested = [_TESTED.get(role, _Tested()) for role in roles]
    values = {value for each in tested for value in each.values}
    example = ""
    for each, capability in zip(tested, capabilities, strict=True):
        if each.example and not example:
            example = each.example
            values |= imports_for(capability.registered.protocol, [example]).get("orchestrator.capabilities", set())
    imported = {
        "orchestrator.capabilities": values,
        "orchestrator.plugins": {"Connector"},
        "orchestrator.plugins.contract": {"connector_problems"},
        "orchestrator.plugins.host": {"installed_capabilities"},
        f"{_TESTING}.contracts.blind": {"BlindAccountContract"} if "OrderRecords" in roles else set(),
        f"{_TESTING}.contracts.faults": {"ConnectorHygieneContract", "FaultsContract"},
        f"{_TESTING}.fake_backends": {each.view for each in tested if each.view},
    }
    for where in (where for each in capabilities for where in (each.registered.fake, each.registered.contract)):
        module, _, name = where.partition(":")
        imported.setdefault(module, set()).add(name)
    fakes = [each.registered.fake.partition(":")[2] for each in capabilities]
    return {
        "roles": roles,
        "values": sorted(values),
        "fakes": [(f"fake_{fake.removeprefix('Fake').lower()}", fake) for fake in fakes],
        "views": {each.role: _views(each) for each in capabilities if each.role not in _TESTED},
        "example": example,
        "imported_by_tests": _import_lines({module: names for module, names in imported.items() if names}),
    }


def _views(capability: DescribedCapability) -> list[str]:
    """Return the fixtures of a contract but the connection, each of which is the fake."""
    wanted = [each["name"] for each in fixtures_of(class_at(capability.registered.contract))]
    return [name for name in wanted if name != capability.name]


def _fake(capability: DescribedCapability) -> Any:
    """Return what the generated connector asks at first."""
    return class_at(capability.registered.fake)()


def _operations(capability: DescribedCapability) -> list[DescribedOperation]:
    """Return the operations as the connector needs them: an effect asks for its id if the fake does."""
    fake = _fake(capability)
    return [
        each.with_effect_id() if each.kind == "effect" and asks_for_effect_id(getattr(fake, each.name)) else each
        for each in capability.operations
    ]


def class_at(where: str) -> Any:
    """Import a class that a capability names as ``module:Class``.

    Raises:
        ConfigurationError: It cannot be imported, or the capability names none.
    """
    module, _, name = where.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ConfigurationError(
            f"the capability's fake or contract {where!r} cannot be imported ({exc}); its plug-in must name both"
        ) from exc


def _import_lines(imported: Mapping[str, set[str]]) -> list[str]:
    return [import_line(module, list(imported[module])) for module in sorted(imported)]


def import_line(module: str, names: Sequence[str]) -> str:
    """Write an import as a formatter would."""
    ordered = sorted(names, key=lambda name: (name[0].islower(), name.casefold()))  # classes first
    line = f"from {module} import {', '.join(ordered)}"
    if len(line) <= _LINE:
        return line
    return "\n".join([f"from {module} import (", *(f"    {name}," for name in ordered), ")"])


def _write(kind: str, name: str, into: Path, about: dict[str, object]) -> list[Path]:
    target = into / name
    if target.exists():
        raise ConfigurationError(f"{target} is there already; remove it, or write --into another directory")
    title = " ".join(re.split("[-_]", name)).capitalize()
    words = {
        "name": name,
        "title": title,
        "module": f"{name.replace('-', '_')}_{kind}",
        "class_name": "".join(part.title() for part in re.split("[-_]", name)),
        "function": name.replace("-", "_"),
        "api": API,
        **about,
    }
    return [_render(template, target, kind, words) for template in _templates(kind)]


def _templates(kind: str) -> Iterator[str]:
    for template in environment().list_templates():
        if template.startswith(f"{kind}/") and _PIECES not in template:
            yield template


def _render(template: str, target: Path, kind: str, words: dict[str, object]) -> Path:
    place = template.removeprefix(f"{kind}/").removesuffix(_SUFFIX)
    file = target / place.replace("MODULE", str(words["module"])).replace("DOT", ".")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(environment().get_template(template).render(words), encoding="utf-8")
    return file


@cache
def environment() -> Environment:
    """Return where our templates are found."""
    environment = Environment(
        loader=PackageLoader("orchestrator.kit"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - it writes Python, TOML and Markdown, no HTML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["import_line"] = import_line
    environment.filters["cell"] = lambda text: text.replace("``", "`").replace("|", r"\|")
    return environment
