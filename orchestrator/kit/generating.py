"""Packages to begin with: a connector, or a process, that installs and passes its own tests at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from orchestrator.errors import ConfigurationError
from orchestrator.kit.describing import DescribedCapability, DescribedOperation, described, names_in
from orchestrator.plugins import API
from orchestrator.plugins.contract import NAME

_SUFFIX = ".j2"
_LINE = 120
_TAKEN = ("http",)
"""Its settings would be called as those that they inherit from."""
_PIECES = "/_"
"""Templates that are parts of others lie in directories that begin so."""


@dataclass(frozen=True)
class _Tested:
    """How the tests of a capability are written.

    Args:
        module: Of the fake and of the contract, below ``orchestrator.testing`` and ``orchestrator.testing.contracts``.
        fake: The fake's class.
        view: What the contract sees of the fake, of ``orchestrator.testing.fake_backends``.
        example: Arguments of the first effect.
        values: What the samples in the tests are made of.
    """

    module: str
    fake: str
    view: str = ""
    example: str = ""
    values: tuple[str, ...] = ()


_TESTED: Mapping[str, _Tested] = {
    "FileLinks": _Tested("files", "FakeFiles", "FakeStore", "PRESENT, valid_for=timedelta(hours=1)", ("Asset",)),
    "OrderRecords": _Tested("orders", "FakeOrders", values=("Asset", "Purchase")),
    "Mailer": _Tested("mail", "FakeMailer", "FakePost", 'OutgoingMail(to=ANN, subject="s", text="t"), effect_id="f-1"'),
    "Mailbox": _Tested("mail", "FakeMailbox", "FakeLetterbox"),
    "Contacts": _Tested("contacts", "FakeContacts", "FakeCards", 'ANN, "lost-download", effect_id="f-1"'),
    "Notifier": _Tested("notices", "FakeNotifier", "FakeReaders", 'Notice(title="2 runs wait"), effect_id="f-1"'),
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
    operations = [operation for each in capabilities for operation in each.operations]
    effects = [each for each in operations if each.kind == "effect"]
    doubts = {name: doubt for each in capabilities for name, doubt in _doubts(each).items()}
    annotations = [text for each in operations for text in (each.parameters, each.result)]
    annotations += ["Receipt"] * ("PROBE" in doubts.values())
    named = names_in([*annotations, *(each.role for each in capabilities)])
    return {
        "capabilities": capabilities,
        "operations": operations,
        "effects": effects,
        "doubts": doubts,
        "annotations": annotations,
        "documents": import_line("orchestrator.toolkit.documents", _documents_used(operations, doubts)),
        "imported": import_line("orchestrator.capabilities", named),
    }


def _documents_used(operations: Sequence[DescribedOperation], doubts: Mapping[str, str]) -> list[str]:
    asks = "PROBE" in doubts.values() or any(each.kind == "query" and each.arguments for each in operations)
    return ["document"] * bool(doubts) + ["in_query"] * asks + ["value_of"]


def _test_words(capabilities: Sequence[DescribedCapability]) -> dict[str, object]:
    roles = [each.role for each in capabilities]
    tested = [_TESTED[role] for role in roles]
    imported = {("contracts.faults", "FaultsContract"), ("contracts.faults", "ConnectorHygieneContract")}
    imported |= {(each.module, each.fake) for each in tested}
    imported |= {(f"contracts.{each.module}", f"{role}Contract") for role, each in zip(roles, tested, strict=True)}
    imported |= {("fake_backends", each.view) for each in tested if each.view}
    imported |= {("contracts.blind", "BlindAccountContract")} if "OrderRecords" in roles else set()
    example = next((each.example for each in tested if each.example), "")
    return {
        "roles": roles,
        "values": sorted({value for each in tested for value in each.values} | set(names_in([example]))),
        "fakes": [(f"fake_{each.fake.removeprefix('Fake').lower()}", each.fake) for each in tested],
        "example": example,
        "testing": _import_lines(imported),
    }


def _doubts(capability: DescribedCapability) -> dict[str, str]:
    """Return how the fake, which is all that is asked at first, settles a doubt about each effect."""
    tested = _TESTED[capability.role]
    fake = getattr(import_module(f"orchestrator.testing.{tested.module}"), tested.fake)()
    return {each.name: fake.settlement(each.name).doubt.name for each in capability.operations if each.kind == "effect"}


def _import_lines(imported: set[tuple[str, str]]) -> list[str]:
    modules = sorted({module for module, _ in imported})
    names = {module: [name for place, name in imported if place == module] for module in modules}
    return [import_line(f"orchestrator.testing.{module}", names[module]) for module in modules]


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
