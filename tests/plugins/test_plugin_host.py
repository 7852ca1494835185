from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pluggy
import pytest

from orchestrator.errors import PluginError
from orchestrator.plugins import RegisterConnector, hookimpl
from orchestrator.plugins.host import CONNECTORS, PROCESSES, PluginHost, PluginReport
from tests.support.plugins import SHELF, Definition, Process, offering, plugin, report_on, with_processes


def test_the_installed_connectors_come_through_the_same_door_as_any_other() -> None:
    host = PluginHost(extra={"acme": offering(SHELF)})
    known = {"dropbox", "gmail", "keap", "mail", "s3", "shelf", "shop-sql", "slack", "webhook"}
    assert known <= set(host.connectors())
    assert {report.state for report in host.reports} == {"loaded"}


def test_what_became_of_a_plugin_is_reported() -> None:
    assert report_on(offering(SHELF)) == PluginReport(
        name="acme", distribution="", version="", group=CONNECTORS, state="loaded", offers=("shelf",)
    )


def test_a_connector_is_offered_as_it_was_registered() -> None:
    assert PluginHost(extra={"acme": offering(SHELF)}).connectors()["shelf"] is SHELF


def test_a_disabled_plugin_is_reported_and_not_imported() -> None:
    host = PluginHost(disabled=["acme"], extra={"acme": offering(SHELF)})
    assert "shelf" not in host.connectors()
    assert [report.name for report in host.reports if report.state == "disabled"] == ["acme"]


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    program = (
        "import sys\n"
        "from orchestrator.plugins.host import PluginHost\n"
        "host = PluginHost()\n"
        "assert {'s3'} <= host.names()\n"
        "assert not {'orchestrator_connectors', 'prefect'} & sys.modules.keys(), 'imported by a look at the names'\n"
        "assert host.connectors()\n"
        "assert 'orchestrator_connectors' in sys.modules\n"
        "assert not {'prefect'} & sys.modules.keys(), 'imported by a look at the connectors'\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_processes_are_loaded_from_their_own_group() -> None:
    process = Process(Definition())
    host = PluginHost(extra={"acme": with_processes(process)})
    assert host.processes() == {"monthly-report": process}
    assert host.reports[-1] == PluginReport(
        name="acme", distribution="", version="", group=PROCESSES, state="loaded", offers=("monthly-report",)
    )


def test_one_plugin_may_offer_connectors_and_processes() -> None:
    both = offering(SHELF)
    both.register_processes = with_processes(Process(Definition())).register_processes  # type: ignore[attr-defined]
    host = PluginHost(extra={"acme": both})
    assert "shelf" in host.connectors()
    assert list(host.processes()) == ["monthly-report"]


def test_a_plugin_is_asked_once() -> None:
    asked = []

    def register_connectors(register: RegisterConnector) -> None:
        asked.append(register)

    host = PluginHost(extra={"acme": plugin(register_connectors=register_connectors)})
    host.connectors()
    host.connectors()
    assert len(asked) == 1


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def register_connectors(register: RegisterConnector) -> NoReturn:
        raise error

    return register_connectors


def swallowing(register: RegisterConnector) -> None:
    try:
        register(replace(SHELF, provides=()))
    except PluginError:
        register(SHELF)


def wrapping() -> ModuleType:
    def register_connectors(register: RegisterConnector) -> Any:
        return (yield)

    module = ModuleType("plugin")
    module.register_connectors = hookimpl(wrapper=True)(register_connectors)  # type: ignore[attr-defined]
    return module


def undecorated() -> ModuleType:
    module = ModuleType("plugin")
    module.register_connectors = lambda register: register(SHELF)  # type: ignore[attr-defined]
    return module


def of_another_project() -> ModuleType:
    module = undecorated()
    pluggy.HookimplMarker("elsewhere")(module.register_connectors)
    return module


class Unreadable:
    def __dir__(self) -> NoReturn:
        raise RuntimeError("no such thing")

    @hookimpl
    def register_connectors(self, register: RegisterConnector) -> None:
        register(SHELF)


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    @hookimpl
    def register_connectors(self, register: RegisterConnector) -> None:
        register(SHELF)


async def asynchronous(register: RegisterConnector) -> None:
    register(SHELF)


BROKEN = {
    "misspelt hook": (
        plugin(register_conectors=lambda register: None),
        'has a hook register_conectors, which does not exist; did you mean "register_connectors"?',
    ),
    "misspelt second hook": (
        plugin(register_connectors=lambda register: None, register_process=lambda register: None),
        'has a hook register_process, which does not exist; did you mean "register_processes"?',
    ),
    "no hook": (ModuleType("plugin"), "has no hook register_connectors; write `@hookimpl` above"),
    "hook without hookimpl": (undecorated(), "has no hook register_connectors; write `@hookimpl` above"),
    "hook of another project": (of_another_project(), "has no hook register_connectors; write `@hookimpl` above"),
    "unknown argument": (
        plugin(register_connectors=lambda registry: None),
        "but can not be found in the hookspec; write `def register_connectors(register)`",
    ),
    "no argument": (
        plugin(register_connectors=lambda: None),
        "does not ask for register; write `def register_connectors(register)`",
    ),
    "argument with a default, which pluggy does not give": (
        plugin(register_connectors=lambda register=None: None),
        "does not ask for register; write `def register_connectors(register)`",
    ),
    "hooks that cannot be looked at": (Unreadable(), "its hooks cannot be read: RuntimeError: no such thing ("),
    "object that cannot be told from others": (Unhashable(), "its hooks cannot be read: TypeError: unhashable"),
    "wrapper": (wrapping(), "register_connectors is a wrapper; write a plain `@hookimpl` above it"),
    "exception": (plugin(register_connectors=raising(KeyError("colour"))), "failed: KeyError: 'colour' ("),
    "exit": (plugin(register_connectors=raising(SystemExit(3))), "register_connectors failed: SystemExit: 3"),
    "connectors returned": (
        plugin(register_connectors=lambda register: [SHELF]),
        "register_connectors returned a list; call register once with each connector instead",
    ),
    "asynchronous hook": (
        plugin(register_connectors=asynchronous),
        "register_connectors returned a coroutine; call register once",
    ),
    "refusal that the plug-in hides": (
        plugin(register_connectors=swallowing),
        'connector "shelf" offers no capability; the capabilities are',
    ),
    "the same connector twice": (offering(SHELF, SHELF), 'connector "shelf" is offered twice'),
    "no connector": (
        offering("shelf"),
        "what it offers as a connector is a str; give register a Connector(name=..., provides=..., ",
    ),
}


@pytest.mark.parametrize(("broken", "problem"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_named_and_leaves_the_others_alone(broken: object, problem: str) -> None:
    report = report_on(broken)
    assert (report.state, report.offers) == ("broken", ())
    assert problem in report.problem


def test_what_a_broken_plugin_offered_before_it_failed_is_not_taken() -> None:
    host = PluginHost(extra={"acme": offering(SHELF, replace(SHELF, name="Second Shelf"))})
    assert "shelf" not in host.connectors()


def test_a_hook_may_have_another_name_if_it_says_which_it_is() -> None:
    module = ModuleType("plugin")
    module.offer = hookimpl(specname="register_connectors")(  # type: ignore[attr-defined]
        lambda register: register(SHELF)
    )
    assert report_on(module).offers == ("shelf",)


def test_a_misspelt_specname_is_found() -> None:
    module = ModuleType("plugin")
    module.offer = hookimpl(specname="register_conector")(lambda register: None)  # type: ignore[attr-defined]
    assert 'did you mean "register_connectors"?' in report_on(module).problem


def test_a_hook_of_a_later_host_is_left_alone_if_it_says_that_it_is_optional() -> None:
    module = offering(SHELF)
    module.register_pages = hookimpl(optionalhook=True)(lambda register: None)  # type: ignore[attr-defined]
    assert report_on(module).state == "loaded"


def test_a_plugin_may_be_an_object() -> None:
    class Acme:
        @hookimpl
        def register_connectors(self, register: RegisterConnector) -> None:
            register(SHELF)

    host = PluginHost(extra={"acme": Acme()})
    assert host.connectors()["shelf"] is SHELF


def test_of_two_connectors_with_one_name_the_later_is_refused_and_both_plugins_are_named() -> None:
    other = replace(SHELF)
    host = PluginHost(extra={"acme": offering(SHELF), "apex": offering(other)})
    assert host.connectors()["shelf"] is SHELF
    report = next(report for report in host.reports if report.name == "apex")
    assert report.state == "broken"
    assert report.problem == (
        'connector "shelf" is offered by plug-in "acme" too; rename one, or write one of the two plug-ins into '
        "[plugins] disabled"
    )


def test_the_orchestrators_own_connectors_cannot_be_taken_over() -> None:
    host = PluginHost(extra={"acme": offering(replace(SHELF, name="s3"))})
    assert host.connectors()["s3"] is not SHELF
    assert 'is offered by plug-in "s3" (process-orchestrator ' in host.reports[-1].problem


def test_of_two_processes_with_one_name_the_later_is_refused() -> None:
    plugins = {name: with_processes(Process(Definition())) for name in ("acme", "apex")}
    host = PluginHost(extra=plugins)
    host.processes()
    assert [report.state for report in host.reports] == ["loaded", "loaded", "broken"]
    assert 'process "monthly-report" is offered by plug-in "acme" too' in host.reports[-1].problem


def install(folder: Path, name: str, entry_points: str, *, metadata: str = "", **modules: str) -> None:
    """Lay out a distribution as an installer does."""
    info = folder / f"{name}-2.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n{metadata}")
    (info / "entry_points.txt").write_text(entry_points)
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)


INSTALLED: dict[str, tuple[str, dict[str, str], str]] = {
    "error at import": ("acme_a", {"acme_a": "\n1 / 0\n"}, "cannot be imported: ZeroDivisionError: division by zero ("),
    "syntax": ("acme_b", {"acme_b": "def\n"}, "cannot be imported: SyntaxError: "),
    "exit at import": ("acme_c", {"acme_c": "raise SystemExit('bye')"}, "cannot be imported: SystemExit: bye ("),
    "no module": ("acme_d", {}, "there is no module acme_d; pip install 'acme[store]'"),
    "missing library": ("acme_e", {"acme_e": "import boto9"}, "no module boto9; pip install 'acme[store]'"),
    "no attribute": ("acme_f:plugin", {"acme_f": ""}, "cannot be imported: AttributeError: "),
    "no module name": ("not a module!", {}, "names no module; write it as name = package.module"),
}


@pytest.mark.parametrize(("value", "modules", "problem"), INSTALLED.values(), ids=INSTALLED)
def test_an_installed_plugin_that_is_broken_is_reported_with_its_package_and_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, modules: dict[str, str], problem: str
) -> None:
    text = f"[{CONNECTORS}]\nstore = {value}\n"
    install(tmp_path, "acme", text, metadata="Provides-Extra: store\n", **modules)
    monkeypatch.syspath_prepend(tmp_path)
    host = PluginHost()
    assert "s3" in host.connectors()
    [report] = [report for report in host.reports if report.name == "store"]
    assert (str(report), report.state) == ('plug-in "store" (acme 2.5)', "broken")
    assert problem in report.problem


def test_a_list_of_entry_points_that_cannot_be_read_takes_nothing_else_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "acme", f"[{CONNECTORS}]\nstore acme_store\n")
    monkeypatch.syspath_prepend(tmp_path)
    host = PluginHost()
    assert "s3" in host.connectors()
    assert [str(report) for report in host.reports if report.state == "broken"] == ['plug-in "acme" (acme 2.5)']


def test_an_installed_package_cannot_take_over_a_connector_of_the_orchestrator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from orchestrator_connectors.s3 import register_connectors\n"
    install(tmp_path, "aaa", f"[{CONNECTORS}]\naaa = aaa_plugin\n", aaa_plugin=source)
    monkeypatch.syspath_prepend(tmp_path)
    host = PluginHost()
    host.connectors()
    states = {report.name: report.state for report in host.reports}
    assert (states["s3"], states["aaa"]) == ("loaded", "broken")


def test_a_package_that_is_installed_twice_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from orchestrator.plugins import hookimpl\n@hookimpl\ndef register_connectors(register): pass\n"
    for folder in (tmp_path / "first", tmp_path / "second"):
        install(folder, "acme", f"[{CONNECTORS}]\nstore = acme_twice\n", acme_twice=source)
        monkeypatch.syspath_prepend(folder)
    host = PluginHost()
    host.connectors()
    assert [report.state for report in host.reports if report.name == "store"] == ["loaded"]
