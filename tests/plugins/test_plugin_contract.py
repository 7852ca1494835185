from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, NoReturn

import pytest
from pydantic import BaseModel

from orchestrator.capabilities import Asset, FileLinks, Mailbox, OrderRecords, People
from orchestrator.errors import PluginError
from orchestrator.plugins import RegisterConnector
from tests.support.plugins import SHELF, Definition, Process, Shelf, ShelfSettings, offering, report_on, with_processes


async def asynchronous(register: RegisterConnector) -> None:
    register(SHELF)


class Loose(BaseModel, extra="forbid"):
    pass


class Ignoring(BaseModel, frozen=True):
    pass


class Naming(BaseModel, frozen=True, extra="forbid"):
    connector: str


class FileLink:
    """Almost the name of a capability."""


CONNECTORS_THAT_BREAK_THE_CONTRACT: dict[str, tuple[dict[str, Any], str]] = {
    "no version": ({"api": "one"}, "has the API version 'one'; write api='2.0'"),
    "a version of another kind": ({"api": 1.0}, "has the API version 1.0; write api='2.0'"),
    "written for an older break": (
        {"api": "1.9"},
        "was written for API 1.9, and this orchestrator has 2.0; install a n",
    ),
    "written for a newer break": (
        {"api": "3.0"},
        "was written for API 3.0, and this orchestrator has 2.0; upgrade pro",
    ),
    "written for a newer addition": ({"api": "2.1"}, "was written for API 2.1, and this orchestrator has 2.0; upgrade"),
    "no capability": ({"provides": ()}, "offers no capability; the capabilities are Contacts, FileLinks, "),
    "one capability alone": ({"provides": FileLinks}, "has the class FileLinks as provides; write provides=(FileL"),
    "unknown capability": ({"provides": (FileLink,)}, "did you mean FileLinks?"),
    "name of a capability": ({"provides": ("FileLinks",)}, "offers a str, which is no capability"),
    "capability of the host": ({"provides": (People,)}, "offers People, which the host answers itself; leave it out"),
    "name": ({"name": "Our Shelf"}, "has the name 'Our Shelf'; write lower-case letters, digits and hyphens"),
    "settings that can change": ({"settings": Loose}, "write class Loose(BaseModel, frozen=True, extra='forbid')"),
    "settings that ignore": ({"settings": Ignoring}, "lets misspelt settings pass; write class Ignoring(BaseModel, "),
    "reserved setting": ({"settings": Naming}, "has a setting named connector, which is the host"),
    "no settings model": ({"settings": dict}, "has the class dict as settings; make it a pydantic model"),
    "settings, not their model": ({"settings": ShelfSettings()}, "has a ShelfSettings as settings; make it a "),
    "no build": ({"build": None}, "has nothing as build; give it a class or function that takes the settings"),
    "build without settings": ({"build": lambda: None}, "has a build that does not take exactly the settings"),
    "capability without its methods": ({"provides": (FileLinks, OrderRecords)}, "has no method purchases_of; write"),
}


@pytest.mark.parametrize(
    ("change", "problem"), CONNECTORS_THAT_BREAK_THE_CONTRACT.values(), ids=CONNECTORS_THAT_BREAK_THE_CONTRACT
)
def test_a_connector_that_breaks_the_contract_is_refused(change: dict[str, Any], problem: str) -> None:
    report = report_on(offering(replace(SHELF, **change)))
    assert report.state == "broken"
    assert report.problem.startswith('connector "')
    assert problem in report.problem


def test_all_mistakes_of_a_connector_are_told_at_once() -> None:
    report = report_on(offering(replace(SHELF, name="Our Shelf", settings=Loose)))
    assert report.problem.count("; ") == 3


class Half(FileLinks):
    """Inherits the bodiless operations of the capability."""

    def __init__(self, settings: ShelfSettings) -> None: ...

    def exists(self, asset: Asset) -> bool:
        return True

    def check(self) -> str:
        return ""


METHODS_THAT_DO_NOT_FIT: dict[str, tuple[dict[str, Any], str]] = {
    "method settlement": (
        {"settlement": lambda self, operation: None},
        r'has a method settlement, as of API 1.0; Odd needs instead the attribute settlements = \{"send": ',
    ),
    "no check": ({"check": None}, "has no method check; "),
    "no operation": ({"exists": None}, r"has no method exists; write `def exists\(self, asset\)`"),
    "renamed": ({"exists": lambda self, key: True}, "exists has no parameter asset; write `def exists"),
    "keyword only": ({"exists": lambda self, *, asset: True}, "exists takes asset in another way"),
    "positional only": ({"exists": lambda self, asset, /: True}, "exists takes asset in another way"),
    "effect_id demanded of a query": (
        {"exists": lambda self, asset, *, effect_id: True},
        "exists demands a parameter effect_id that nobody gives",
    ),
    "one more": ({"exists": lambda self, asset, bucket: True}, "exists demands a parameter bucket that nobody"),
    "another place": ({"exists": lambda self, bucket=1, asset=2: True}, "exists takes asset at another place"),
    "asynchronous": ({"exists": asynchronous}, "exists is async; write a plain `def exists`"),
}


@pytest.mark.parametrize(("methods", "problem"), METHODS_THAT_DO_NOT_FIT.values(), ids=METHODS_THAT_DO_NOT_FIT)
def test_a_connection_whose_methods_do_not_fit_is_refused(methods: dict[str, Any], problem: str) -> None:
    report = report_on(offering(replace(SHELF, build=type("Odd", (Shelf,), methods))))
    assert report.state == "broken"
    assert re.search(problem, report.problem)


def test_an_operation_inherited_from_the_capability_itself_is_none() -> None:
    report = report_on(offering(replace(SHELF, build=Half)))
    assert 'connector "shelf" claims FileLinks, but Half has no method link_to; write' in report.problem


METHODS_THAT_FIT: dict[str, dict[str, Any]] = {
    "more, with a default": {"exists": lambda self, asset, bucket="files": True},
    "anything": {"exists": lambda *args, **kwargs: True, "link_to": lambda self, *args, **kwargs: None},
    "any keyword": {"link_to": lambda self, asset, **rest: None},
    "keywords that may be given by place": {"link_to": lambda self, asset, valid_for, effect_id=None: None},
    "effect_id demanded": {"link_to": lambda self, asset, *, valid_for, effect_id: None},
    "static": {"exists": staticmethod(lambda asset: True)},
    "of the class": {"exists": classmethod(lambda cls, asset: True)},
}


@pytest.mark.parametrize("methods", METHODS_THAT_FIT.values(), ids=METHODS_THAT_FIT)
def test_a_connection_whose_methods_can_be_called_as_the_capability_says_is_taken(methods: dict[str, Any]) -> None:
    report = report_on(offering(replace(SHELF, build=type("Odd", (Shelf,), methods))))
    assert report.problem == ""


def test_a_connector_that_only_reads_needs_no_settlement() -> None:
    class Letterbox:
        def __init__(self, settings: ShelfSettings) -> None: ...
        def position(self) -> str:
            return ""

        def new_mail(self, cursor: str | None, *, limit: int) -> None: ...
        def check(self) -> str:
            return ""

    assert report_on(offering(replace(SHELF, provides=(Mailbox,), build=Letterbox))).state == "loaded"


class Unreadable:
    name = "monthly-report"

    @property
    def needs(self) -> NoReturn:
        raise PluginError("parameter files must be typed with a capability")


PROCESSES_THAT_BREAK_THE_CONTRACT: dict[str, tuple[object, str]] = {
    "no process": (print, "is a builtin_function_or_method without a definition; give register what @process made"),
    "unknown need": (Process(Definition(needs={"files": FileLink})), "needs files, typed the class FileLink, which is"),
    "no input model": (Process(Definition(request=str)), "takes the class str as its input; make it a pydantic model"),
    "name": (Process(Definition(name="Monthly report")), "has the name 'Monthly report'; write lower-case"),
    "signature": (Process(Unreadable()), "cannot be read: parameter files must be typed with a capability"),
}


@pytest.mark.parametrize(
    ("process", "problem"), PROCESSES_THAT_BREAK_THE_CONTRACT.values(), ids=PROCESSES_THAT_BREAK_THE_CONTRACT
)
def test_a_process_that_breaks_the_contract_is_refused(process: object, problem: str) -> None:
    report = report_on(with_processes(process), load="processes")
    assert (report.state, report.offers) == ("broken", ())
    assert problem in report.problem
