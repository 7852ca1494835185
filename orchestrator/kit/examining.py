"""Runs the contracts of a connector, with pytest in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from orchestrator.errors import ConfigurationError
from orchestrator.kit.tiers import Evidence, TestNote
from orchestrator.plugins import Connector
from orchestrator.plugins.host import PluginHost
from orchestrator.spelling import suggestion
from orchestrator.testing.measuring import AGAINST

_RAN = (0, 1)
"""How pytest ends if it ran tests (docs.pytest.org, "Exit codes"): all passed, or some failed."""
_FOUND_NONE = 5


NAMES: Mapping[str, str] = dict(zip(AGAINST, ("a stand-in", "the vendor's own sandbox", "a real account"), strict=True))
"""What contracts are run against, as it is said to people."""


def installed_connector(name: str, host: PluginHost) -> Connector[Any]:
    """Return a connector.

    Args:
        name: The connector.
        host: The plug-ins.

    Raises:
        ConfigurationError: There is none, or its plug-in is broken; the message says what is wrong with it.
    """
    known = host.connectors()
    if name in known:
        return known[name]
    broken = [f"{report} is broken: {report.problem}" for report in host.reports if report.state == "broken"]
    remedy = "; ".join([suggestion(name, known), "pip install the package of a new one first", *broken])
    raise ConfigurationError(f'no connector "{name}" is installed; {remedy}')


def examine(connector: Connector[Any], tests: Path, against: str = AGAINST[0]) -> tuple[Evidence, str]:
    """Run the contracts of a connector.

    Args:
        connector: The connector.
        tests: The file or directory of its tests.
        against: What they are run against, of ``AGAINST``.

    Returns:
        What became of them, and what pytest said.

    Raises:
        ConfigurationError: There are none, or they cannot be run.
    """
    if find_spec("pytest") is None:
        raise ConfigurationError("contracts are run by pytest, which is not installed; pip install pytest")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "notes.json"
        options = ["-q", "-p", "no:cacheprovider", f"--contracts={file}", f"--connector={connector.name}"]
        options += [f"--against={against}"]
        ended = subprocess.run(  # noqa: S603 - our own Python, and paths
            [sys.executable, "-m", "pytest", *options, str(tests)], capture_output=True, text=True, check=False
        )
        if ended.returncode == _FOUND_NONE:
            raise ConfigurationError(
                f"no test in {tests} runs a contract of {connector.name} against {NAMES[against]}; write connector = "
                f'"{connector.name}"{_also(against)} in each class that does'
            )
        if ended.returncode not in _RAN:
            raise ConfigurationError(f"the tests in {tests} cannot be run:\n{ended.stdout}{ended.stderr}")
        return Evidence(provides=connector.provides, notes=read_notes(file)), ended.stdout


def _also(against: str) -> str:
    return "" if against == AGAINST[0] else f' and against = "{against}"'


def read_notes(file: Path) -> list[TestNote]:
    """Read what our pytest plug-in noted."""
    return [
        TestNote(
            connector=each["connector"],
            contract=each["contract"],
            test_class=each["class"],
            test=each["test"],
            outcome=each["outcome"],
            reason=each["reason"],
            against=each["against"],
            untouched=each["untouched"],
            promised=tuple(each["promised"]),
            changed=tuple(each["changed"]),
            given=tuple(each["given"]),
        )
        for each in json.loads(file.read_text())
    ]
