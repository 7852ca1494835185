"""``orchestrator connections authorize``: a person grants access in a browser, and the answer comes to this machine."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Thread
from urllib.parse import urlencode

import pytest

from orchestrator.bootstrap import Application, use
from orchestrator.capabilities import Mailbox
from orchestrator.cli.loopback import Loopback
from orchestrator.errors import AccessDenied, ConfigurationError, Unavailable
from orchestrator.plugins import Connector
from orchestrator.plugins.authorization import Authorizable
from orchestrator.plugins.host import PluginHost
from orchestrator.testing.mail import FakeMailbox
from tests.support.app_with_fakes import Nothing
from tests.support.configurations import load
from tests.support.console import Console
from tests.support.plugins import offering

CONFIG = """
[store]
url = "sqlite:///{folder}/record.db"
[connections]
granted.connector = "granted-mailbox"
plain.connector = "plain-mailbox"
"""

Person = Callable[[str, str], None]
"""What somebody does in a browser, given the redirect address and the state."""


class GrantedMailbox(FakeMailbox):
    """A mailbox that a person grants access to."""

    def __init__(self, person: Person) -> None:
        super().__init__()
        self.redeemed: list[tuple[str, str]] = []
        self.asked: list[tuple[str, str]] = []
        self._person = person

    def authorization_url(self, redirect_uri: str, state: str) -> str:
        self.asked.append((redirect_uri, state))
        Thread(target=self._person, args=(redirect_uri, state), daemon=True).start()
        return "https://accounts.example/authorize?" + urlencode({"redirect_uri": redirect_uri, "state": state})

    def redeem(self, code: str, redirect_uri: str) -> str:
        self.redeemed.append((code, redirect_uri))
        return "read access was granted"


def visit(redirect_uri: str, path: str = "", **query: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{redirect_uri}{path}?{urlencode(query)}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def grant(redirect_uri: str, state: str) -> None:
    visit(redirect_uri, state=state, code="4/code")


def connected(folder: Path, person: Person) -> GrantedMailbox:
    mailbox = GrantedMailbox(person)
    connectors = [
        Connector(name=name, provides=(Mailbox,), settings=Nothing, build=lambda _settings, built=built: built)
        for name, built in (("granted-mailbox", mailbox), ("plain-mailbox", FakeMailbox()))
    ]
    plugins = PluginHost(extra={"fakes": offering(*connectors)})
    use(Application(load(folder, CONFIG.format(folder=folder)), plugins=plugins))
    return mailbox


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    with Loopback("the-state") as waiting:
        yield waiting


def test_a_person_opens_an_address_and_the_connection_gets_its_credential(tmp_path: Path, console: Console) -> None:
    mailbox = connected(tmp_path, grant)
    said = console("connections", "authorize", "granted")
    (redirect_uri, state) = mailbox.asked[0]
    assert (said.code, said.err) == (0, "")
    assert urlencode({"redirect_uri": redirect_uri, "state": state}) in said.out
    assert said.out.splitlines()[-1] == "read access was granted"
    assert mailbox.redeemed == [("4/code", redirect_uri)]
    assert len(state) >= 32
    assert redirect_uri.startswith("http://127.0.0.1:")


def test_the_port_can_be_chosen_so_that_a_server_without_a_browser_can_forward_it(
    tmp_path: Path, console: Console
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mailbox = connected(tmp_path, grant)
    assert console("connections", "authorize", "granted", "--port", str(port)).code == 0
    assert mailbox.redeemed == [("4/code", f"http://127.0.0.1:{port}/")]


def test_a_refusal_in_the_browser_is_explained_and_stores_nothing(tmp_path: Path, console: Console) -> None:
    mailbox = connected(tmp_path, lambda uri, state: [visit(uri, state=state, error="access_denied"), None][1])
    said = console("connections", "authorize", "granted")
    assert (said.code, said.err) == (
        1,
        "access was not granted in the browser: start again, and allow it there\n",
    )
    assert mailbox.redeemed == []


def test_nobody_answering_is_explained(tmp_path: Path, console: Console) -> None:
    mailbox = connected(tmp_path, lambda _uri, _state: None)
    said = console("connections", "authorize", "granted", "--minutes", "0.001")
    assert said.code == 1
    assert "no answer came to http://127.0.0.1:" in said.err
    assert mailbox.redeemed == []


def test_a_connection_whose_credential_is_a_setting_has_nothing_to_grant(tmp_path: Path, console: Console) -> None:
    connected(tmp_path, grant)
    said = console("connections", "authorize", "plain")
    assert (said.code, said.err) == (
        1,
        'connection "plain" has no access to grant: its credential stands in its settings\n',
    )


@pytest.mark.parametrize(
    "query",
    [{}, {"code": "4/stolen"}, {"code": "4/stolen", "state": "another"}, {"code": "4/stolen", "state": "the-statE"}],
)
def test_an_answer_to_another_attempt_is_refused_and_waiting_goes_on(loopback: Loopback, query: dict[str, str]) -> None:
    status, text = visit(loopback.redirect_uri, **query)
    assert (status, "stolen" in text) == (400, False)
    grant(loopback.redirect_uri, "the-state")
    assert loopback.wait(timedelta(seconds=10)) == "4/code"


def test_a_state_given_twice_counts_as_none(loopback: Loopback) -> None:
    status, _ = visit(loopback.redirect_uri, path="?state=the-state&state=the-state&code=4/stolen&x=")
    assert status == 400


def test_what_a_browser_asks_besides_is_no_answer(loopback: Loopback) -> None:
    assert visit(loopback.redirect_uri, path="favicon.ico", state="the-state", code="4/other")[0] == 404
    with pytest.raises(Unavailable):
        loopback.wait(timedelta(0))


def test_an_idle_connection_of_the_browser_keeps_nobody_out(loopback: Loopback) -> None:
    host, port = loopback.redirect_uri.removeprefix("http://").rstrip("/").split(":")
    with socket.create_connection((host, int(port))):
        grant(loopback.redirect_uri, "the-state")
        assert loopback.wait(timedelta(seconds=10)) == "4/code"


@pytest.mark.parametrize(
    ("error", "named"), [("invalid_scope", "(invalid_scope)"), ("<script>ann@example.com", "refused: check")]
)
def test_a_refusal_of_the_server_is_named_but_not_repeated(loopback: Loopback, error: str, named: str) -> None:
    _, shown = visit(loopback.redirect_uri, state="the-state", error=error)
    with pytest.raises(AccessDenied) as refused:
        loopback.wait(timedelta(seconds=10))
    assert named in str(refused.value)
    assert "ann@" not in f"{refused.value}{shown}"


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"--port: cannot wait on port {port} "):
            Loopback("the-state", port=port)


def test_nothing_listens_any_more_once_it_is_over() -> None:
    with Loopback("the-state") as waiting:
        uri = waiting.redirect_uri
    with pytest.raises(OSError, match="refused"), suppress(urllib.error.HTTPError):
        visit(uri)


def test_the_contract_tells_who_can_be_authorized(tmp_path: Path) -> None:
    assert isinstance(GrantedMailbox(grant), Authorizable)
    assert not isinstance(FakeMailbox(), Authorizable)
