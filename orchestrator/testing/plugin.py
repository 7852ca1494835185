"""A pytest plug-in that notes how connectors keep their contracts, and what was left out.

A test class that inherits a contract names its connector: ``connector = "acme"``. With ``--contracts=FILE``, only
such classes run, and what became of each test is written to the file; ``--connector=NAME`` chooses one connector.

A class that talks to the vendor's own sandbox, or to a real account, says so: ``against = "sandbox"`` or ``"real"``.
Its tests run only with ``--against=sandbox`` or ``--against=real``, and no others of contracts do then.

A promise that a system cannot keep is a deviation, and stands in the class with its reason; all else that changes a
contract's test is noticed::

    deviations = {"test_a_check_says_in_one_line_what_it_saw": "the vendor has no call that changes nothing"}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from orchestrator.testing.measuring import AGAINST

CONTRACTS = "orchestrator.testing.contracts"
PROPERTY = "orchestrator-contract"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    group = parser.getgroup("orchestrator", "contracts of connectors")
    group.addoption("--contracts", type=Path, metavar="FILE", help="run contracts alone, and write their outcomes here")
    group.addoption(
        "--against", choices=AGAINST, default=AGAINST[0], help="run contracts against this: a stand-in unless named"
    )
    group.addoption("--connector", metavar="NAME", help="with --contracts: only those of this connector")


def pytest_configure(config: pytest.Config) -> None:
    """Take notes if somebody wants them; with pytest-xdist, where the reports come together."""
    file = config.getoption("--contracts")
    if file is not None:
        config.pluginmanager.register(_Chooser(config.getoption("--connector")))
        if not hasattr(config, "workerinput"):
            config.pluginmanager.register(_Notes(file))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the contracts of other surroundings, and let the deviations that a class declares fail.

    Raises:
        pytest.UsageError: A class declares a deviation from a test that its contract does not have, or is run against
            something unknown.
    """
    _deselect(config, items, lambda item: _against(item) in (None, config.getoption("--against")))
    for item in items:
        test_class = getattr(item, "cls", None)
        contract = contract_of(test_class) if test_class else None
        deviations = getattr(test_class, "deviations", {}) if contract else {}
        if contract and (unknown := deviations.keys() - set(promised_by(contract))):
            raise pytest.UsageError(f"{item.nodeid}: {contract.__name__} has no {min(unknown)}: correct deviations")
        if reason := deviations.get(_name(item)):
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


class _Chooser:
    """Leaves only contracts to run."""

    def __init__(self, connector: str | None) -> None:
        self._connector = connector

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Choose, and note in each item which contract it belongs to."""
        abouts = {item: _about(item) for item in items}
        _deselect(config, items, lambda item: (about := abouts[item]) and self._connector in (None, about["connector"]))
        for item in items:
            item.user_properties.append((PROPERTY, abouts[item]))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        """Note whether the test talks to a stand-in that answers as the kit wrote it."""
        about: Any = dict(item.user_properties)[PROPERTY]
        about["untouched"] = any(map(_is_untouched, getattr(item, "funcargs", {}).values()))


class _Notes:
    """Writes down what became of each test."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._tests: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note one phase of a test; a failure in any of them counts."""
        about = dict(report.user_properties).get(PROPERTY)
        if not isinstance(about, dict):
            return
        outcome, known = _outcome(report), self._tests.get(report.nodeid, {})
        if outcome == "passed":
            outcome = known.get("outcome", outcome)
        self._tests[report.nodeid] = {**about, "outcome": outcome, "reason": known.get("reason") or _reason(report)}

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self) -> Generator[None, None, None]:
        """Write the notes."""
        yield
        self._file.write_text(json.dumps(list(self._tests.values()), indent=1))


def contract_of(test_class: type) -> type | None:
    """Return the contract that a test class inherits: one of ours, or one that another plug-in's capability names."""
    return next((each for each in test_class.__mro__ if _is_contract(each.__module__, each.__qualname__)), None)


@cache
def _is_contract(module: str, name: str) -> bool:
    from orchestrator.plugins.host import installed_capabilities

    if module.startswith(f"{CONTRACTS}."):
        return True
    return any(each.contract == f"{module}:{name}" for each in installed_capabilities().values())


def promised_by(contract: type) -> list[str]:
    """Return the names of a contract's tests."""
    return [name for each in contract.__mro__ for name in vars(each) if name.startswith("test_")]


def _about(item: pytest.Item) -> dict[str, Any] | None:
    test_class = getattr(item, "cls", None)
    contract = contract_of(test_class) if test_class else None
    if contract is None or test_class is None:
        return None
    theirs = promised_by(contract)
    return {
        "connector": getattr(test_class, "connector", None),
        "contract": contract.__name__,
        "against": _against(item),
        "untouched": False,
        "class": test_class.__qualname__,
        "test": _name(item),
        "promised": theirs,
        "changed": [each for each in theirs if getattr(test_class, each, None) is not getattr(contract, each)],
        "given": [
            name
            for name, member in vars(contract).items()
            if not name.startswith(("_", "test_")) and getattr(test_class, name) is not member
        ],
    }


def _name(item: pytest.Item) -> str:
    return getattr(item, "originalname", item.name)


def _against(item: pytest.Item) -> str | None:
    """Return what a test of a contract is run against; None for any other test."""
    test_class = getattr(item, "cls", None)
    if test_class is None or contract_of(test_class) is None:
        return None
    against: str = getattr(test_class, "against", AGAINST[0])
    if against not in AGAINST:
        raise pytest.UsageError(f"{item.nodeid}: against = {against!r} is none of {', '.join(AGAINST)}")
    return against


def _deselect(config: pytest.Config, items: list[pytest.Item], is_wanted: Callable[[pytest.Item], object]) -> None:
    if others := [item for item in items if not is_wanted(item)]:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


def _is_untouched(fixture: object) -> bool:
    """Tell whether a stand-in answers in the kit's own words, and not in the vendor's."""
    from orchestrator.testing.stub_server import StubServer

    return isinstance(fixture, StubServer) and type(fixture).answer is StubServer.answer


def _reason(report: pytest.TestReport) -> str:
    """Return why a test deviates or was skipped."""
    skipped = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
    return getattr(report, "wasxfail", skipped)


def _outcome(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return "deviates"
    return "skipped" if report.skipped else "passed" if report.passed else "failed"
