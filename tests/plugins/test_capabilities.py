"""A capability that a plug-in brings: what the host demands of it, and how it is told from ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from typing import Any, Protocol

import pytest

from orchestrator.capabilities import (
    HOST_CAPABILITIES,
    FileLinks,
    Mailer,
    Private,
    Receipt,
    Recipient,
    Value,
    effect,
    query,
)
from orchestrator.errors import PluginError
from orchestrator.plugins import Capability, RegisterCapability
from orchestrator.plugins.host import CAPABILITIES, PluginHost
from tests.support.plugins import SHELF, Definition, Process, plugin, report_on, with_processes


class Slot(Value):
    begins: datetime


class Calendar(Protocol):
    """Whose time is free."""

    @query
    def free_slots(self, day: date) -> tuple[Slot, ...]:
        """Look up which times are free."""
        ...

    @effect(reaches=lambda slot, guest: Recipient(guest))
    def book(self, slot: Slot, *, guest: Private[str]) -> Receipt:
        """Book a time for a guest."""
        ...


CALENDAR = Capability(name="calendar", protocol=Calendar)


def bringing(*capabilities: object) -> Any:
    def register_capabilities(register: RegisterCapability) -> None:
        for capability in capabilities:
            register(capability)  # type: ignore[arg-type]

    return plugin(register_capabilities=register_capabilities)


def protocol(**operations: Callable[..., Any]) -> type:
    return type("Calendar", (Protocol,), operations)  # type: ignore[arg-type]


def test_our_own_capabilities_come_by_the_same_hook_and_first() -> None:
    host = PluginHost(extra={"acme": bringing(CALENDAR)})
    assert [*host.capabilities()][-1] == "calendar"
    assert host.capabilities()["mailer"].protocol is Mailer
    assert [(each.name, each.group, each.state) for each in host.reports] == [
        ("standard", CAPABILITIES, "loaded"),
        ("acme", CAPABILITIES, "loaded"),
    ]
    assert host.capabilities().keys() - host.capabilities().bindable.keys() == HOST_CAPABILITIES


def test_what_the_host_is_built_upon_cannot_be_disabled() -> None:
    host = PluginHost(disabled=["standard"])
    assert "mailbox" in host.capabilities()
    assert "standard" not in host.names()


def test_another_plugins_capability_can_be_given_and_needed() -> None:
    class Diary:
        def __init__(self, settings: Any) -> None: ...
        def free_slots(self, day: date) -> tuple[Slot, ...]:
            return ()

        def book(self, slot: Slot, *, guest: str) -> Receipt:
            return Receipt()

        def check(self) -> str:
            return ""

    diary = replace(SHELF, name="diary", provides=(Calendar,), build=Diary)
    giving = plugin(register_connectors=lambda register: register(diary))
    needing = with_processes(Process(Definition(needs={"calendar": Calendar})))
    host = PluginHost(extra={"acme": bringing(CALENDAR), "giving": giving, "needing": needing})
    assert "diary" in host.connectors()
    assert list(host.processes()) == ["monthly-report"]
    assert host.capabilities().of(Calendar) == CALENDAR


def test_a_capability_that_no_plugin_brings_is_told_from_none() -> None:
    needing = Process(Definition(needs={"calendar": Calendar}))
    problem = report_on(with_processes(needing), load="processes").problem
    assert "install the plug-in that brings it, or let it call register with a Capability of Calendar" in problem
    with pytest.raises(PluginError, match=r"no plug-in brings the capability Calendar of .*test_capabilities"):
        _ = PluginHost().capabilities().of(Calendar)


def test_a_capability_cannot_take_the_name_or_the_protocol_of_one_of_ours() -> None:
    named = report_on(bringing(replace(CALENDAR, name="mailer")), load="capabilities")
    assert 'capability "mailer" is offered by plug-in "standard" (process-orchestrator ' in named.problem
    same = report_on(bringing(Capability(name="links", protocol=FileLinks)), load="capabilities")
    assert same.problem == 'capability "links" has the protocol of file_links; give it one of its own'
    twice = report_on(bringing(CALENDAR, replace(CALENDAR, name="diary")), load="capabilities")
    assert (twice.state, twice.offers) == ("broken", ())


@effect
def with_key(self: Any, slot: Slot, *, effect_id: str | None = None) -> Receipt:
    """Book a time."""


@query
def untitled(self: Any) -> str: ...


@query
async def asynchronous(self: Any) -> str:
    """Look."""


@query
def variadic(self: Any, *days: date) -> str:
    """Look."""


@query
def unresolved(self: Any, day: Unknown) -> str:  # type: ignore[name-defined]  # noqa: F821
    """Look."""


@query
def unannotated(self: Any, day) -> str:  # type: ignore[no-untyped-def] # noqa: ANN001
    """Look."""


@query
def unwritable(self: Any) -> PluginHost:
    """Look."""


@effect(reaches=lambda guest: Recipient(guest, acknowledges=True))
def misdirected(self: Any, slot: Slot) -> Receipt:
    """Book a time."""


class Inheriting(Calendar, Protocol):
    """A calendar, and nothing else."""


CAPABILITIES_THAT_BREAK_THE_CONTRACT: dict[str, tuple[object, str]] = {
    "no capability": (Calendar, "is the class Calendar; give register a Capability(name=..., protocol=...)"),
    "name": (
        replace(CALENDAR, name="Our-Calendar"),
        "has the name 'Our-Calendar'; write lower-case letters, digits and",
    ),
    "newer API": (replace(CALENDAR, api="9.0"), "was written for API 9.0, and this orchestrator has"),
    "no place": (
        replace(CALENDAR, fake="acme"),
        "has 'acme' as fake; write where the class is: acme_calendar.testing:",
    ),
    "no protocol": (replace(CALENDAR, protocol=Slot), "has the class Slot as protocol; write class Calendar(Protocol)"),
    "no operation": (
        replace(CALENDAR, protocol=protocol()),
        "has no operation; mark the methods of Calendar with @query",
    ),
    "inherited": (
        replace(CALENDAR, protocol=Inheriting),
        "inherits book from Calendar; write out its operations in Inh",
    ),
    "effect_id": (
        replace(CALENDAR, protocol=protocol(book=with_key)),
        "has the operation with_key, which takes effect_id, which no process gives; leave it out: ",
    ),
    "no title": (
        replace(CALENDAR, protocol=protocol(untitled=untitled)),
        "has no docstring; its first line is the title",
    ),
    "async": (replace(CALENDAR, protocol=protocol(asynchronous=asynchronous)), "is async; write a plain `def asynchro"),
    "variadic": (replace(CALENDAR, protocol=protocol(variadic=variadic)), "takes arguments without names; the record"),
    "unknown name": (
        replace(CALENDAR, protocol=protocol(unresolved=unresolved)),
        "NameError: name 'Unknown' is not def",
    ),
    "no annotation": (
        replace(CALENDAR, protocol=protocol(unannotated=unannotated)),
        "no annotation of its argument day",
    ),
    "no value": (
        replace(CALENDAR, protocol=protocol(unwritable=unwritable)),
        "has an answer that cannot be written down",
    ),
    "recipient": (
        replace(CALENDAR, protocol=protocol(misdirected=misdirected)),
        "write reaches=lambda slot: Recipient(",
    ),
}


@pytest.mark.parametrize(
    ("offered", "problem"), CAPABILITIES_THAT_BREAK_THE_CONTRACT.values(), ids=CAPABILITIES_THAT_BREAK_THE_CONTRACT
)
def test_a_capability_that_breaks_the_contract_is_refused(offered: object, problem: str) -> None:
    report = report_on(bringing(offered), load="capabilities")
    assert (report.state, report.offers) == ("broken", ())
    assert problem in report.problem
