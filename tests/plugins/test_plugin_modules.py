"""A plain module of a project is a plug-in if the configuration names it; nothing is packaged or installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.plugins.host import PluginHost
from tests.support.configurations import load
from tests.support.plugins import SHELF, offering

PROCESS = '''
from orchestrator.capabilities import Value
from orchestrator.process import RegisterProcess, hookimpl, process
from {package}.words import GREETING

class Nothing(Value):
    pass

@process("greeting")
def greeting(request: Nothing) -> str:
    """Greet."""
    return GREETING

@hookimpl
def register_processes(register: RegisterProcess) -> None:
    register(greeting)
'''
CONNECTOR = """
from orchestrator.plugins import RegisterConnector, hookimpl
from tests.support.plugins import SHELF

@hookimpl
def register_connectors(register: RegisterConnector) -> None:
    register(SHELF)
"""


@pytest.fixture(autouse=True)
def path() -> Iterator[None]:
    """Where Python looks for modules, as it was before."""
    before = list(sys.path)
    yield
    sys.path[:] = before


def project(folder: Path, package: str, process: str = PROCESS) -> None:
    (folder / package).mkdir(parents=True)
    (folder / package / "words.py").write_text('GREETING = "Good morning"\n')
    (folder / package / "__init__.py").write_text(process.format(package=package))
    (folder / f"{package}_systems.py").write_text(CONNECTOR)


def test_modules_of_a_folder_offer_processes_and_connectors(tmp_path: Path) -> None:
    project(tmp_path, "bakery")
    host = PluginHost(modules=["bakery", "bakery_systems"], folder=tmp_path)
    assert {"bakery", "bakery_systems", "s3"} <= host.names()
    assert host.connectors()["shelf"] is SHELF
    assert "greeting" in host.processes()
    offers = {report.name: (report.state, report.offers) for report in host.reports}
    assert offers["bakery"] == ("loaded", ("greeting",))
    assert offers["bakery_systems"] == ("loaded", ("shelf",))


@pytest.mark.parametrize(
    ("process", "problem"),
    [
        ("1 / 0\n", "cannot be imported: ZeroDivisionError: division by zero ({folder}/{name}/__init__.py, line 1)"),
        ("import boto9\n", "there is no module boto9; put it into {folder}, install it, or correct [plugins] modules"),
        ("", "has no hook register_connectors; write `@hookimpl` above"),
    ],
    ids=["error", "library", "hook"],
)
def test_a_broken_module_is_reported_with_its_place_and_the_others_work(
    tmp_path: Path, request: pytest.FixtureRequest, process: str, problem: str
) -> None:
    name = f"broken_{request.node.callspec.id}"
    project(tmp_path, name, process)
    host = PluginHost(modules=[name], folder=tmp_path, extra={"acme": offering(SHELF)})
    assert "shelf" in host.connectors()
    reports = [report for report in host.reports if report.name == name]
    assert {report.state for report in reports} == {"broken"}
    assert problem.format(folder=tmp_path, name=name) in reports[-1].problem


def test_a_disabled_module_is_not_imported(tmp_path: Path) -> None:
    project(tmp_path, "switched_off", "1 / 0\n")
    host = PluginHost(modules=["switched_off"], folder=tmp_path, disabled=["switched_off"])
    assert host.connectors()
    assert [report.state for report in host.reports if report.name == "switched_off"] == ["disabled"]


def test_modules_are_found_from_the_folder_of_the_configuration_whatever_folder_a_command_is_called_in(
    tmp_path: Path,
) -> None:
    project(tmp_path / "shop", "shop_flows")
    config = tmp_path / "shop" / "orchestrator.toml"
    config.write_text('plugins.modules = ["shop_flows", "missing_module"]\n')
    (tmp_path / "away").mkdir()

    def called(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "orchestrator", "--config", str(config), *arguments]
        return subprocess.run(command, cwd=tmp_path / "away", capture_output=True, text=True, check=False, timeout=120)

    assert called("run", "greeting").returncode == 0
    assert called("processes", "greeting").stdout == "Greet\n\n"
    module = tmp_path / "shop" / "shop_flows" / "__init__.py"
    module.write_text(module.read_text().replace("Greet.", "Greet everybody."))
    assert called("processes", "greeting").stdout == "Greet everybody\n\n"
    remedy = f"put it into {tmp_path / 'shop'}, install it, or correct [plugins] modules"
    problem = f"cannot be imported: there is no module missing_module; {remedy}"
    said = called("check").stdout.splitlines()
    assert said.count(f'Problem: plug-in "missing_module": {problem}') == 1


def test_what_is_no_name_of_a_module_is_refused_where_it_stands(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"\[plugins\] modules.0: names no module; write it as in an import"):
        load(tmp_path, 'plugins.modules = ["../flows"]')
