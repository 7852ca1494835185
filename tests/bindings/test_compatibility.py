from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from orchestrator.bindings import connect
from orchestrator.capabilities import Cases, FileLinks, Mailer, People
from orchestrator.plugins.host import PluginHost
from orchestrator.schedule import Schedule
from tests.support.configurations import load
from tests.support.connections import WHOLE, connected
from tests.support.plugins import Definition, Process


class Delivery(BaseModel):
    delivery: str


PROCESSES = {
    "monthly-report": Process(Definition(needs={"files": FileLinks, "mailer": Mailer, "people": People})),
    "support-inbox": Process(Definition("support-inbox", needs={"cases": Cases}, request=Delivery)),
}


def test_what_fits_together_has_no_problems(tmp_path: Path) -> None:
    assert connected(tmp_path).compatibility(PROCESSES) == []


MISFITS: dict[str, tuple[str, str, list[str]]] = {
    "nothing bound": (
        'bindings.mailer = "post"\n',
        "",
        ['[bindings] mailer: process "monthly-report" needs mailer, and no connection is bound to it; write "post"'],
    ),
    "unknown connection": (
        'mailer = "post"',
        'mailer = "pots"',
        ['[bindings] mailer: there is no connection "pots"; did you mean "post"?, or write [con'],
    ),
    "connection without the capability": (
        'file_links = "shelf"',
        'file_links = "post"',
        ['[bindings] file_links: connection "post" gives no FileLinks (its connector is post); write "attic" or "sh'],
    ),
    "unknown capability": (
        "bindings.mailer",
        'bindings.filelinks = "shelf"\nbindings.mailer',
        ['[bindings] filelinks: is no capability; did you mean "file_links"?'],
    ),
    "capability of the host": (
        "bindings.mailer",
        'bindings.people = "post"\nbindings.cases = "host"\nbindings.mailer',
        ['[bindings] people: is answered by the host itself; remove the line, or write people = "host"'],
    ),
    "host": (
        'mailer = "post"',
        'mailer = "host"',
        ['[bindings] mailer: the host answers cases, inbox, people alone; write "post"'],
    ),
    "binding of a process": (
        "bindings.mailer",
        'processes.monthly-report.bindings.mailer = "pots"\nbindings.mailer',
        ['[processes.monthly-report.bindings] mailer: there is no connection "pots"; did you me'],
    ),
    "unknown process": (
        "bindings.mailer",
        "processes.monthly-rapport.schedule.every_seconds = 60\nbindings.mailer",
        ['[processes.monthly-rapport]: there is no process "monthly-rapport"; did you mean "monthly-report"?'],
    ),
    "request of a schedule": (
        "bindings.mailer",
        "processes.monthly-report.schedule = {every_seconds = 60, request = {month = 3}}\nbindings.mailer",
        ["[processes.monthly-report.schedule.request] month: must be text; write it in quotes"],
    ),
    "schedule without its request": (
        "bindings.mailer",
        "processes.monthly-report.schedule = {every_seconds = 60}\nbindings.mailer",
        ["[processes.monthly-report.schedule.request] month: is missing; write month = ... below [processes.mo"],
    ),
    "schedule without a rhythm": (
        "bindings.mailer",
        'processes.monthly-report.schedule = {request = {month = "last"}}\nbindings.mailer',
        ["[processes.monthly-report] schedule: has no rhythm; write one of cron, every_seconds and rrule, or"],
    ),
    "mailbox on a connection that is none": (
        'connection = "post"',
        'connection = "shelf"',
        ['[mailboxes.support] connection: connection "shelf" gives no Mailbox (its connector is shelf); write "'],
    ),
    "mailbox of an unknown process": (
        'process = "support-inbox"',
        'process = "suport-inbox"',
        ['[mailboxes.support] process: there is no process "suport-inbox"; did you mean "support-inbox"?'],
    ),
    "mailbox of a process that is off": (
        "bindings.mailer",
        "processes.support-inbox.enabled = false\nbindings.mailer",
        ['[mailboxes.support] process: process "support-inbox" is switched off; name another process, or remove'],
    ),
    "mailbox of a process that takes no mail": (
        'process = "support-inbox"',
        'process = "monthly-report"',
        ['[mailboxes.support] process: the input of process "monthly-report" is no mail; name a process whose input'],
    ),
    "unknown plug-in": (
        "bindings.mailer",
        'plugins.disabled = ["amce"]\nbindings.mailer',
        ['[plugins] disabled.0: there is no plug-in "amce"; did you mean "acme"?'],
    ),
}


@pytest.mark.parametrize(("old", "new", "expected"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_together_is_told_with_its_place_and_remedy(
    tmp_path: Path, old: str, new: str, expected: list[str]
) -> None:
    assert old in WHOLE
    problems = connected(tmp_path, WHOLE.replace(old, new, 1)).compatibility(PROCESSES)
    told = [str(problem).replace(f"{tmp_path}/o.toml: ", "") for problem in problems]
    assert [line[: len(start)] for line, start in zip(told, expected, strict=True)] == expected


def test_the_request_of_a_declared_schedule_is_checked_too(tmp_path: Path) -> None:
    daily = PROCESSES | {"monthly-report": Process(Definition(schedule=Schedule(cron="0 8 * * *")))}
    [problem] = connected(tmp_path).compatibility(daily)
    assert str(problem).startswith(f"{tmp_path}/o.toml: [processes.monthly-report.schedule.request] month: is missing")
    for fixed in ('schedule.request.month = "last"', "schedule.enabled = false", "enabled = false"):
        settled = connected(tmp_path, f"processes.monthly-report.{fixed}\n{WHOLE}")
        assert settled.compatibility(daily) == []


def test_a_process_that_is_switched_off_needs_nothing(tmp_path: Path) -> None:
    text = WHOLE.replace('bindings.mailer = "post"', "processes.monthly-report.enabled = false")
    assert connected(tmp_path, text).compatibility(PROCESSES) == []


def test_a_lost_process_is_explained_by_its_broken_plugin(tmp_path: Path) -> None:
    settings = load(tmp_path, "processes.monthly-report.enabled = true")
    host = PluginHost(extra={"reports": object()})
    [problem] = connect(settings, host).compatibility(host.processes())
    assert 'plug-in "reports" is broken: has no hook register_processes' in problem.remedy
