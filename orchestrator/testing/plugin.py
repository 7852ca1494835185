"""A pytest plug-in that notes how connectors keep their contracts, and what was left out.

A test class that inherits a contract names its connector: ``connector = "acme"``. With ``--contracts=FILE``, only
such classes run, and what became of each test is written to the file; ``--connector=NAME`` chooses one connector.

A promise that a system cannot keep is a deviation, and stands in the class with its reason; all else that changes a
contract's test is noticed::

    deviations = {"test_a_check_says_in_one_line_what_it_saw": "the vendor has no call that changes nothing"}
"""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

CONTRACTS = "orchestrator.testing.contracts"
PROPERTY = "orchestrator-contract"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    group = parser.getgroup("orchestrator", "contracts of connectors")
    group.addoption("--contracts", type=Path, metavar="FILE", help="run contracts alone, and write their outcomes here")
    group.addoption("--connector", metavar="NAME", help="with --contracts: only those of this connector")


def pytest_configure(config: pytest.Config) -> None:
    """Take notes if somebody wants them; with pytest-xdist, where the reports come together."""
    file = config.getoption("--contracts")
    if file is not None:
        config.pluginmanager.register(_Chooser(config.getoption("--connector")))
        if not hasattr(config, "workerinput"):
            config.pluginmanager.register(_Notes(file))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the deviations that a class declares fail, and nothing else of it.

    Raises:
        pytest.UsageError: A class declares a deviation from a test that its contract does not have.
    """
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
        chosen, others = [], []
        for item in items:
            about = _about(item)
            if about is None or self._connector not in (None, about["connector"]):
                others.append(item)
                continue
            item.user_properties.append((PROPERTY, about))
            chosen.append(item)
        config.hook.pytest_deselected(items=others)
        items[:] = chosen


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
        outcome = _outcome(report)
        known = self._tests.get(report.nodeid)
        if known is None or outcome != "passed":
            self._tests[report.nodeid] = {**about, "outcome": outcome, "reason": getattr(report, "wasxfail", "")}

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self) -> Generator[None, None, None]:
        """Write the notes."""
        yield
        self._file.write_text(json.dumps(list(self._tests.values()), indent=1))


def contract_of(test_class: type) -> type | None:
    """Return the contract that a test class inherits."""
    return next((each for each in test_class.__mro__ if each.__module__.startswith(f"{CONTRACTS}.")), None)


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


def _outcome(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return "deviates"
    return "skipped" if report.skipped else "passed" if report.passed else "failed"
