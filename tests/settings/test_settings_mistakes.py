from __future__ import annotations

import re
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import ConfigurationError
from orchestrator.settings import ScheduleSettings, load_settings
from tests.support.configurations import load, mistakes
from tests.support.paths import ROOT

EXAMPLE = ROOT / "config" / "production.example.toml"

MISTAKES: dict[str, tuple[str, list[str]]] = {
    "syntax": ("[store]\nurl = \n", ["o.toml: is no TOML: Invalid value (at line 2, column 7); correct that line"]),
    "same field twice": (
        "[store]\nurl='a'\nurl='b'\n[prefect]",
        ["o.toml: is no TOML: Cannot overwrite a value (at line"],
    ),
    "too deep": (f"a = {'[' * 5000}", ["o.toml: is no TOML: a value is too long or nested too deeply; correct"]),
    "too long": (f"a = {'1' * 5000}", ["o.toml: is no TOML: a value is too long or nested too deeply; correct"]),
    "unknown section": ("[conections.shop]", ['o.toml: [conections]: is no section; did you mean "connections"?']),
    "section in capitals": (
        "[Store]\nurl = 'sqlite:///x.db'",
        ['o.toml: [Store]: is no section; did you mean "store"?'],
    ),
    "underscored section": ("[_secrets_dir]", ["o.toml: [_secrets_dir]: is no section; known: a"]),
    "unknown field": ("store.key_fil = 'k'", ['o.toml: [store] key_fil: is no setting; did you mean "key_file"?']),
    "field like no other": ("store.x = 1", ["o.toml: [store] x: is no setting; known: key_file, url"]),
    "unknown field deep below": (
        "[processes.p.schedule]\ncron = '0 8 * * *'\ntimezon = 'UTC'",
        ['o.toml: [processes.p.schedule] timezon: is no setting; did you mean "timezone"?'],
    ),
    "missing": (
        "mailboxes.support.connection = 'mail'",
        ["o.toml: [mailboxes.support] process: is missing; write process = ... below [mailboxes.support], or set ORC"],
    ),
    "text": ("store.url = 3", ["o.toml: [store] url: must be text; write it in quotes"]),
    "switch": ("processes.p.enabled = 'x'", ["o.toml: [processes.p] enabled: must be true or false; write it without"]),
    "section": ("store = 3", ["o.toml: [store]: must be a section; write its name in brackets on a line of its own"]),
    "connection": ("connections.shop = 3", ["o.toml: [connections.shop]: must be a section; write its name in brack"]),
    "list": (
        "plugins.disabled = 3",
        ['o.toml: [plugins] disabled: must be a list; write it in brackets, such as ["a"'],
    ),
    "item": ("plugins.disabled = ['a', 3]", ["o.toml: [plugins] disabled.1: must be text; write it in quotes"]),
    "range": (
        "mailboxes.a = {connection = 'm', process = 'p', poll_seconds = 0}",
        ["o.toml: [mailboxes.a] poll_seconds: is not accepted; it should be greater than 0"],
    ),
    "name": (
        "connections.'Our Shop' = {}",
        ['o.toml: [connections."Our Shop"]: is no name; write lower-case letters, digits and single underscores'],
    ),
    "name that variables cannot hold": ("connections.a__b = {}", ["o.toml: [connections.a__b]: is no name; write low"]),
    "the host's own name": (
        "connections.host = {}",
        ["o.toml: [connections.host]: is the host's own; give the connection another name than host"],
    ),
    "store": ("store.url = 'mysql://db'", ["o.toml: [store] url: names no store that is supported; write sqlite:///"]),
    "address": ("prefect.api_url = 'x'", ["o.toml: [prefect] api_url: is no web address; write it with its scheme"]),
    "cron": (
        "processes.p.schedule.cron = '61 * * * *'",
        ["o.toml: [processes.p.schedule] cron: is no cron expression (Bad minute); write minute, hour, day, month"],
    ),
    "cron with seconds": (
        "processes.p.schedule.cron = '* * * * * *'",
        ["o.toml: [processes.p.schedule] cron: is no cron expression (it needs 5 fields); write minute, hour"],
    ),
    "time zone": (
        "processes.p.schedule = {every_seconds = 60, timezone = 'Europe/Berln'}",
        ["o.toml: [processes.p.schedule] timezone: is no time zone; write one of the IANA names, such as Europe/Be"],
    ),
    "two rhythms": (
        "processes.p.schedule = {every_seconds = 60, cron = '0 8 * * *'}",
        ["o.toml: [processes.p] schedule: has more than one rhythm; write one of cron, every_seconds and rrule"],
    ),
    "rrule that is none": (
        "processes.p.schedule.rrule = 'FREQ=FORTNIGHTLY'",
        ["o.toml: [processes.p.schedule] rrule: is no usable recurrence rule of RFC 5545 (invalid 'FREQ': FORTNIGHTLY"],
    ),
    "rrule that is over": (
        "processes.p.schedule.rrule = 'FREQ=DAILY;UNTIL=20200301T000000'",
        ["o.toml: [processes.p.schedule] rrule: is no usable recurrence rule of RFC 5545 (it never comes due again)"],
    ),
    "rrule that was used up": (
        "processes.p.schedule.rrule = 'FREQ=DAILY;COUNT=3'",
        ["o.toml: [processes.p.schedule] rrule: is no usable recurrence rule of RFC 5545 (it never comes due again)"],
    ),
    "rrule that never holds": (
        "processes.p.schedule.rrule = 'FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30'",
        ["o.toml: [processes.p.schedule] rrule: is no usable recurrence rule of RFC 5545 (it never comes due again)"],
    ),
    "rrule that is too quick": (
        "processes.p.schedule.rrule = 'FREQ=HOURLY'",
        ["o.toml: [processes.p.schedule] rrule: is no usable recurrence rule of RFC 5545 (it repeats more often than"],
    ),
    "rrule with a zone of its own": (
        'processes.p.schedule.rrule = "DTSTART:20260301T080000Z\\nRRULE:FREQ=DAILY"',
        ["o.toml: [processes.p.schedule] rrule: is no usable recurrence rule of RFC 5545 (its DTSTART has a time"],
    ),
    "all at once": (
        "[store]\nurl = 3\n[mailboxes.a]\nconnection = 'mail'\nproces = 'p'\n",
        [
            "o.toml: [store] url: must be text",
            "o.toml: [mailboxes.a] process: is missing",
            'o.toml: [mailboxes.a] proces: is no setting; did you mean "process"?',
        ],
    ),
}


@pytest.mark.parametrize(("text", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_the_file_is_told_with_its_place_and_remedy(
    tmp_path: Path, text: str, expected: list[str]
) -> None:
    told = mistakes(tmp_path, text)
    assert [line[: len(start)] for line, start in zip(told, expected, strict=True)] == expected


ELSEWHERE: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    "variable": (
        {"STORE__URL": "mysql://hunter2hunter2"},
        {},
        "environment variable ORCHESTRATOR_STORE__URL: [store] url: names no store that is supported; write sqlite",
    ),
    "secret": (
        {},
        {"mailboxes__a__poll_seconds": "hunter2hunter2", "mailboxes__a__connection": "m", "mailboxes__a__process": "p"},
        "secrets/mailboxes__a__poll_seconds: [mailboxes.a] poll_seconds: must be a number; write it without quotes",
    ),
    "both: the variable counts": (
        {"STORE__URL": "x"},
        {"store__url": "sqlite:///x.db"},
        "environment variable ORCHESTRATOR_STORE__URL: [store] url: names no store that is supported",
    ),
    "unknown section": (
        {"CONECTIONS__SHOP__URL": "x"},
        {},
        "environment variable ORCHESTRATOR_CONECTIONS__SHOP__URL: [conections]: is no section; did you",
    ),
    "unknown field": ({}, {"store__ur": "x"}, 'secrets/store__ur: [store] ur: is no setting; did you mean "url"?'),
    "value for a section": (
        {"CONNECTIONS__SHOP": "x"},
        {},
        "environment variable ORCHESTRATOR_CONNECTIONS__SHOP: [connections.shop]: must be a section; write its name",
    ),
    "section for a value": (
        {"STORE__URL__X": "x"},
        {},
        "environment variable ORCHESTRATOR_STORE__URL__X: [store] url: must be text",
    ),
    "value and section": (
        {"STORE__URL": "sqlite:///x.db", "STORE__URL__X": "x"},
        {},
        "environment variable ORCHESTRATOR_STORE__URL__X: gives both as a value and as a section what is g",
    ),
    "no JSON": (
        {"PLUGINS__DISABLED": "acme"},
        {},
        "environment variable ORCHESTRATOR_PLUGINS__DISABLED: [plugins] disabled: is no JSON; write it as JSON",
    ),
    "one underscore in a variable": (
        {"STORE_URL": "sqlite://"},
        {},
        "environment variable ORCHESTRATOR_STORE_URL: names no setting; write two underscores between its par",
    ),
    "one underscore in a secret": (
        {},
        {"connections_shop_url": "x"},
        "secrets/connections_shop_url: names no setting; write two underscores between its parts: connec",
    ),
    "no directory of secrets": (
        {"SECRETS_DIR": "/no/such/directory"},
        {},
        "environment variable ORCHESTRATOR_SECRETS_DIR: names no directory; create it, or unset the variable",
    ),
}


@pytest.mark.parametrize(("variables", "secrets", "expected"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_mistake_in_a_variable_or_secret_names_it_and_not_what_it_holds(
    tmp_path: Path, variables: dict[str, str], secrets: dict[str, str], expected: str
) -> None:
    [told] = mistakes(tmp_path, "", secrets, **variables)
    assert told[: len(expected)] == expected
    assert "hunter2" not in told


def test_a_mistake_in_a_section_that_several_gave_names_them_all(tmp_path: Path) -> None:
    text = "[processes.p.schedule]\ncron = '0 8 * * *'"
    [told] = mistakes(tmp_path, text, PROCESSES__P__SCHEDULE__EVERY_SECONDS="60")
    variable = "environment variable ORCHESTRATOR_PROCESSES__P__SCHEDULE__EVERY_SECONDS"
    assert told.startswith(f"o.toml with {variable}: [processes.p] schedule: has more than one rhythm")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o620])
def test_a_secret_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "secrets").mkdir()
    secret = tmp_path / "secrets" / "connections__shop__password"
    secret.write_text("hunter2hunter2")
    secret.chmod(mode)
    what = f"is a secret that others than its owner may use (mode {mode:03o})"
    file = "secrets/connections__shop__password"
    assert mistakes(tmp_path) == [f"{file}: {what}; run chmod 600 {file}"]


def test_a_secret_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    secret = tmp_path / "secrets" / "store__url"
    secret.write_bytes(b"\xff\xfe")
    secret.chmod(0o600)
    assert mistakes(tmp_path) == ["secrets/store__url: is not UTF-8 text; save it as UTF-8"]


@pytest.mark.parametrize(("name", "why"), [("none.toml", "No such file or directory"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(tmp_path / name, {})
    remedy = "write it after config/production.example.toml"
    assert str(caught.value) == f"{tmp_path / name}: cannot be read ({why}); {remedy}"


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "o.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigurationError, match=re.escape("o.toml: is not UTF-8 text; save it as UTF-8")):
        load_settings(tmp_path / "o.toml", {})


def test_no_cause_with_the_values_stands_behind_the_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, "store.url = ['hunter2hunter2']")
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_the_remedy_for_a_missing_setting_names_every_place_where_it_can_be_given(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "mailboxes.support.connection = 'mail'") == [
        (
            "o.toml: [mailboxes.support] process: is missing; write process = ... below [mailboxes.support], or set "
            "ORCHESTRATOR_MAILBOXES__SUPPORT__PROCESS, or the secret file mailboxes__support__process"
        )
    ]


def test_the_remedy_for_a_misspelt_variable_is_the_whole_variable(tmp_path: Path) -> None:
    [told] = mistakes(tmp_path, STORE_URL="sqlite://")
    assert told.endswith("write two underscores between its parts: ORCHESTRATOR_STORE__URL")


LINES = EXAMPLE.read_text().splitlines(keepends=True)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
VALUES = st.recursive(
    st.one_of(TEXT.map(repr), st.integers().map(str), st.floats().map(str), st.sampled_from(["true", "1979-05-27"])),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
    max_leaves=5,
)
NAMES = st.sampled_from(sorted(set(re.findall(r"[a-z_-]+", EXAMPLE.read_text()))))
ASSIGNMENTS = st.builds(lambda name, value: f"{name} = {value}\n", NAMES | TEXT, VALUES)
HEADERS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: f"[{'.'.join(names)}]\n")
DOCUMENTS = st.lists(st.one_of(st.sampled_from(LINES), HEADERS, ASSIGNMENTS, TEXT), max_size=12).map("".join)
PARTS = st.one_of(st.sampled_from(["store", "connections", "url", "processes", "p", "schedule", "cron", ""]), TEXT)
VARIABLES = st.dictionaries(
    st.lists(PARTS, min_size=1, max_size=5).map(lambda parts: "ORCHESTRATOR_" + "__".join(parts).upper()),
    TEXT | VALUES,
    max_size=5,
)


@given(document=DOCUMENTS, variables=VARIABLES)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_mistake_is_a_configuration_error_and_nothing_else(
    tmp_path: Path, document: str, variables: dict[str, str]
) -> None:
    (tmp_path / "o.toml").write_bytes(document.encode())
    try:
        load_settings(tmp_path / "o.toml", variables)
    except ConfigurationError:
        return


@given(expression=st.lists(st.text(string.printable, max_size=6), max_size=6).map(" ".join))
def test_any_cron_expression_is_taken_or_refused(expression: str) -> None:
    try:
        ScheduleSettings(cron=expression)
    except ValueError:
        return


RULE_PARTS = st.sampled_from(
    [
        "FREQ=DAILY",
        "FREQ=WEEKLY",
        "FREQ=YEARLY",
        "BYDAY=MO",
        "BYDAY=-1FR",
        "BYMONTHDAY=31",
        "COUNT=1",
        "INTERVAL=0",
        "=",
        "",
    ]
)


@given(rule=st.text(string.printable, max_size=20) | st.lists(RULE_PARTS, max_size=4).map(";".join))
def test_any_recurrence_rule_is_taken_or_refused(rule: str) -> None:
    try:
        ScheduleSettings(rrule=rule)
    except ValueError:
        return


@given(name=st.text(max_size=30) | st.sampled_from(["/etc", "..", "Europe", "\0", "posixrules"]))
def test_any_time_zone_is_taken_or_refused(name: str) -> None:
    try:
        ScheduleSettings(cron="0 8 * * *", timezone=name)
    except ValueError:
        return
