from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from orchestrator.bindings import HOST, connect
from orchestrator.errors import ConfigurationError, PluginError
from orchestrator.plugins import DoubtClass, Settlement
from orchestrator.plugins.host import PluginHost
from tests.support.configurations import load
from tests.support.connections import WHOLE, PostSettings, connected
from tests.support.plugins import SHELF, Shelf, ShelfSettings, offering


async def probing(effect_id: str, **arguments: object) -> None: ...


def refused(folder: Path, text: str, *connectors: Any, **variables: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        connected(folder, text, *connectors, **variables)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def test_each_connection_is_built_from_its_own_section(tmp_path: Path) -> None:
    connections = connected(tmp_path)
    assert list(connections) == ["shelf", "attic", "post"]
    assert (connections.get("shelf").folder, connections.get("attic").folder) == ("/files", "/attic")


def test_a_connection_is_built_once_and_not_before_it_is_used(tmp_path: Path) -> None:
    built: list[Shelf] = []

    def build(settings: ShelfSettings) -> Shelf:
        built.append(Shelf(settings))
        return built[-1]

    text = WHOLE + 'connections.counted = {connector = "counted"}'
    connections = connected(tmp_path, text, replace(SHELF, name="counted", build=build))
    assert built == []
    assert connections.get("counted") is connections.get("counted")
    assert len(built) == 1


def test_a_process_is_answered_by_its_own_binding_before_the_default(tmp_path: Path) -> None:
    connections = connected(tmp_path, WHOLE + "processes.monthly-report.bindings.file_links = 'attic'")
    assert connections.connection_for("monthly-report", "file_links") == "attic"
    assert connections.connection_for("another", "file_links") == "shelf"


@pytest.mark.parametrize("capability", ["people", "inbox", "cases"])
def test_the_host_answers_its_own_capabilities(tmp_path: Path, capability: str) -> None:
    assert connected(tmp_path, "").connection_for("monthly-report", capability) == HOST


@pytest.mark.parametrize(
    ("capability", "message"),
    [
        ("contacts", '[bindings] contacts: process "p" needs contacts, and no connection is bound to it; configure a'),
        ("mailer", '[bindings] mailer: connection "shelf" gives no Mailer (its connector is shelf); write "post"'),
    ],
)
def test_a_capability_that_nothing_answers_is_an_error(tmp_path: Path, capability: str, message: str) -> None:
    connections = connected(tmp_path, WHOLE.replace('mailer = "post"', 'mailer = "shelf"'))
    with pytest.raises(ConfigurationError) as caught:
        connections.connection_for("p", capability)
    assert message in str(caught.value)


def test_the_record_can_say_which_version_of_a_connector_answered(tmp_path: Path) -> None:
    connections = connected(tmp_path, WHOLE + 'connections.store = {connector = "s3", bucket = "files"}')
    assert connections.version_of("store").startswith("process-orchestrator ")
    assert connections.version_of("shelf") == ""


def test_an_unknown_connection_is_an_error_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r'there is no connection "shelv"; did you mean "shelf"\?'):
        connected(tmp_path).get("shelv")


SECTIONS: dict[str, tuple[str, str]] = {
    "no connector": ("{}", "o.toml: [connections.x] connector: is missing; write connector = ... with one of dropbox"),
    "connector's type": ("{connector = 3}", "o.toml: [connections.x] connector: must be text; write the connector's"),
    "unknown connector": (
        "{connector = 'shelve'}",
        'o.toml: [connections.x] connector: no connector "shelve" is installed; did you mean "shelf"? (ins',
    ),
    "unknown field": (
        "{connector = 'shelf', foldr = '/x'}",
        'o.toml: [connections.x] foldr: is no setting; did you mean "folder"?',
    ),
    "missing field": (
        "{connector = 'post'}",
        "o.toml: [connections.x] password: is missing; write password = ... below [connections.x], or set ORCHESTR",
    ),
    "wrong type": (
        "{connector = 'post', password = 'long enough', port = 'x'}",
        "o.toml: [connections.x] port: must be a whole number; write it without quotes, such as 30",
    ),
    "words of the connector, without the value": (
        "{connector = 'post', password = 'hunter2'}",
        "o.toml: [connections.x] password: the password ... is short; write ten characters",
    ),
    "model that fails": (
        "{connector = 'post', password = 'crash'}",
        "o.toml: [connections.x]: PostSettings failed with RuntimeError; report it to the authors of post",
    ),
    "section below": (
        "{connector = 'mail', address = 'a@shop.example'}",
        "o.toml: [connections.x] smtp: is missing; write [connections.x.smtp] with its fields below",
    ),
    "field of a section below": (
        "{connector = 'mail', address = 'a@shop.example', smtp = {hots = 'x', host = 'x'}}",
        'o.toml: [connections.x.smtp] hots: is no setting; did you mean "host"?',
    ),
}


@pytest.mark.parametrize(("section", "message"), SECTIONS.values(), ids=SECTIONS)
def test_a_mistake_in_a_connection_is_told_with_its_place_and_remedy(
    tmp_path: Path, section: str, message: str
) -> None:
    [told] = refused(tmp_path, f"connections.x = {section}")
    assert told[: len(message)] == message


def test_mistakes_in_all_connections_are_told_at_once(tmp_path: Path) -> None:
    told = refused(tmp_path, "connections.x = {}\nconnections.y = {connector = 'post', port = 'a'}")
    assert [line.partition(": is")[0].partition(": must")[0] for line in told] == [
        "o.toml: [connections.x] connector",
        "o.toml: [connections.y] password",
        "o.toml: [connections.y] port",
    ]


def test_a_mistake_in_a_variable_of_a_connection_names_the_variable(tmp_path: Path) -> None:
    [told] = refused(tmp_path, WHOLE, CONNECTIONS__POST__PORT="hunter2")
    assert told.startswith("environment variable ORCHESTRATOR_CONNECTIONS__POST__PORT: [connections.post] port: must")


def test_variables_fit_a_connectors_numbers_texts_and_lists(tmp_path: Path) -> None:
    connections = connected(
        tmp_path,
        WHOLE,
        CONNECTIONS__POST__PORT="2525",
        CONNECTIONS__POST__PASSWORD="1234567890",
        CONNECTIONS__POST__RECIPIENTS='["a", "b"]',
    )
    settings = PostSettings(password=SecretStr("1234567890"), recipients=("a", "b"), port=2525)
    assert connections.get("post").settings == settings


def test_a_connector_whose_plugin_is_broken_or_disabled_is_told_so(tmp_path: Path) -> None:
    broken = PluginHost(disabled=["s3"], extra={"shelf": offering(replace(SHELF, provides=()))})
    text = "connections.a = {connector = 'shelf'}\nconnections.b = {connector = 's3'}"
    with pytest.raises(ConfigurationError) as caught:
        connect(load(tmp_path, text), broken)
    first, second = str(caught.value).splitlines()
    assert 'plug-in "shelf" is broken: connector "shelf" offers no capability' in first
    assert second.endswith("remove s3 from [plugins] disabled")


def settled_by(**settlement: Any) -> type[Shelf]:
    return declaring(lambda: {"link_to": Settlement(**settlement)})


def declaring(settlements: Callable[[], Any]) -> type[Shelf]:
    """Return a connection that declares its settlements as it is built, as most do."""

    class Odd(Shelf):
        def __init__(self, settings: ShelfSettings) -> None:
            super().__init__(settings)
            self.settlements = settlements()

    return Odd


SETTLEMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "text as its class": ({"doubt": "natural"}, "a settlement has no class 'natural'; write doubt=DoubtClass.NONE"),
    "PROBE without a probe": ({"doubt": DoubtClass.PROBE}, "a PROBE settlement needs probe"),
    "PROBE with a probe that is none": ({"doubt": DoubtClass.PROBE, "probe": "find"}, "a PROBE settlement needs probe"),
    "asynchronous probe": ({"doubt": DoubtClass.PROBE, "probe": probing}, "a settlement's probe is async"),
    "NATIVE_KEY without a lifetime": ({"doubt": DoubtClass.NATIVE_KEY}, "a NATIVE_KEY settlement needs key_lifetime"),
    "negative time-out": ({"timeout": timedelta(seconds=-1)}, "timeout must be longer than nothing"),
    "no time-out": ({"timeout": timedelta(0)}, "timeout must be longer than nothing"),
    "seconds as a number": ({"timeout": 60}, "timeout must be longer than nothing; write timedelta(seconds=60)"),
    "negative delay": ({"visibility_delay": timedelta(seconds=-1)}, "visibility_delay must not be negative"),
    "negative lifetime": ({"key_lifetime": timedelta(hours=-1)}, "key_lifetime must not be negative"),
}


@pytest.mark.parametrize(("settlement", "message"), SETTLEMENTS.values(), ids=SETTLEMENTS)
def test_a_settlement_that_could_settle_nothing_is_refused_with_the_name_of_its_plugin(
    tmp_path: Path, settlement: dict[str, Any], message: str
) -> None:
    odd = replace(SHELF, name="odd", build=settled_by(**{"doubt": DoubtClass.NONE, **settlement}))
    with pytest.raises(PluginError) as caught:
        connected(tmp_path, "connections.x = {connector = 'odd'}", odd).get("x")
    assert ': plug-in "acme": connector "odd" cannot be built: ' in str(caught.value)
    assert message in str(caught.value)


BUILDS: dict[str, tuple[Any, type[Exception], str]] = {
    "client library": (
        lambda settings: settings.colour,
        PluginError,
        'connector "odd" failed to build it with AttributeError; report it to the connector\'s authors',
    ),
    "setting": (
        lambda settings: (_ for _ in ()).throw(ConfigurationError("folder: write another")),
        ConfigurationError,
        "[connections.x]: folder: write another",
    ),
    "not a connection": (lambda settings: object(), PluginError, 'connector "odd" claims FileLinks, but object has no'),
    "no settlement": (
        declaring(dict),
        PluginError,
        'has no settlement for link_to; declare it: self.settlements = {"link_to": Settlement(doubt=...)}',
    ),
    "settlement that is none": (
        declaring(lambda: {"link_to": DoubtClass.PURE}),
        PluginError,
        "has no settlement for link_to: there is a DoubtClass; write Settlement(doubt=...)",
    ),
    "settlements that are none": (
        declaring(lambda: Settlement(doubt=DoubtClass.PURE)),
        PluginError,
        'has settlements that are a Settlement; write {"link_to": ...}',
    ),
    "settlements that fail": (
        type("Odd", (Shelf,), {"settlements": property(lambda self: {}["link_to"], lambda self, given: None)}),
        PluginError,
        "has no settlements: they raised KeyError; return a dict",
    ),
    "settlement of no effect": (
        declaring(lambda: dict.fromkeys(("link_to", "link_too"), Settlement(doubt=DoubtClass.PURE))),
        PluginError,
        'has a settlement for link_too, which is no effect of it; did you mean "link_to"?',
    ),
    "key that the effect does not take": (
        settled_by(doubt=DoubtClass.NATIVE_KEY, key_lifetime=timedelta(hours=1)),
        PluginError,
        "has no settlement for link_to: link_to does not take the key; write `def link_to(..., effect_id: ",
    ),
    "probe that takes other arguments": (
        settled_by(doubt=DoubtClass.PROBE, probe=lambda effect_id, mail: None),
        PluginError,
        "has no settlement for link_to: its probe cannot be called; write `def probe(effect_id, *, asset, valid_for)`",
    ),
}


@pytest.mark.parametrize(("build", "kind", "message"), BUILDS.values(), ids=BUILDS)
def test_a_connection_that_cannot_be_built_names_itself_and_its_connector(
    tmp_path: Path, build: Any, kind: type[Exception], message: str
) -> None:
    odd = replace(SHELF, name="odd", build=build)
    connections = connected(tmp_path, "connections.x = {connector = 'odd'}", odd)
    with pytest.raises(kind) as caught:
        connections.get("x")
    assert "o.toml: [connections.x]: " in str(caught.value)
    assert message in str(caught.value)
