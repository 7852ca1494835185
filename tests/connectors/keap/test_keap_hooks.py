"""REST hooks: the account on one side, our gateway on the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from orchestrator.bootstrap import Application, use
from orchestrator.builtin.inbox import DeliveryState
from orchestrator.capabilities import Value
from orchestrator.errors import AccessDenied, NotFound, Rejected
from orchestrator.gateway.backfill import reconcile
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.plugins.host import PluginHost
from orchestrator.plugins.subscriptions import Subscribable, Subscription
from orchestrator.sandbox.keap import KeapServer
from orchestrator.testing.http_server import Answer, Fault
from tests.support.configurations import load
from tests.support.console import Console
from tests.support.gateways import Served, serve
from tests.support.keap_account import account, connect, raised_by
from tests.support.plugins import with_processes
from tests.support.webhooks import Process

SECRET = "f" * 40
CONFIG = """
[store]
url = "sqlite:///{folder}/record.db"
key_file = "{folder}/keys/kek"
[connections.crm]
connector = "keap"
api_key = "{keap.gate.api_key}"
base_url = "{keap.base_url}"
known_email = "anna.berg@example.com"
[connections.shop]
connector = "shop-sql"
url = "sqlite://"
query = "SELECT :email"
[webhooks.keap]
process = "crm-changed"
verify = "none"
path_secret = "{secret}"
input.changed = "/object_keys"
input.event = "/event_key"
"""


class Changed(Value):
    event: str
    changed: list[dict[str, int | str]]


def crm_changed(request: Changed) -> None:
    """Look at what changed."""


@pytest.fixture
def keap() -> Iterator[KeapServer]:
    with account() as server:
        yield server


@pytest.fixture
def app(keap: KeapServer, tmp_path: Path) -> Application:
    settings = load(tmp_path, CONFIG.format(folder=tmp_path, keap=keap, secret=SECRET))
    return Application(
        settings,
        plugins=PluginHost(extra={"changed": with_processes(Process(ProcessDefinition("crm-changed", crm_changed)))}),
    )


@pytest.fixture
def gateway(app: Application) -> Iterator[Served]:
    with serve(app) as served:
        yield served


def address(gateway: Served) -> str:
    return f"http://127.0.0.1:{gateway.port}/hooks/keap/{SECRET}"


@pytest.fixture
def console(capsys: pytest.CaptureFixture[str]) -> Console:
    return Console(capsys)


def waiting(app: Application) -> list[dict[str, Any]]:
    """Return what runs wait with, oldest first."""
    found = [delivery for delivery in app.inbox.listed(limit=100) if delivery.state is DeliveryState.STARTED]
    found.sort(key=lambda delivery: delivery.received_at)
    return [json.loads(app.inbox.raw(delivery.delivery)[0]) for delivery in found]


def test_a_subscription_is_verified_by_the_gateway_and_delivers_hints(
    keap: KeapServer, app: Application, gateway: Served
) -> None:
    crm = connect(keap)
    assert isinstance(crm, Subscribable)
    made = crm.subscribe(address(gateway), "order.add")
    assert made == Subscription(key="1", event="order.add", url=address(gateway), state="verified", works=True)
    assert crm.subscriptions() == [made]
    keap.hooks.waiting.clear()
    keap.crm.add_order("1", at="2026-10-01T10:00:00Z", order_id="2001")
    assert keap.hooks.deliver() == [202]
    (hint,) = waiting(app)
    assert (hint["event_key"], hint["object_type"]) == ("order.add", "order")
    assert [key["id"] for key in hint["object_keys"]] == [2001]


def test_what_is_subscribed_already_is_not_subscribed_again(keap: KeapServer, gateway: Served) -> None:
    crm = connect(keap)
    first = crm.subscribe(address(gateway), "order.add")
    assert crm.subscribe(address(gateway), "order.add") == first
    crm.subscribe(address(gateway), "contact.edit")
    assert [hook["eventKey"] for hook in keap.hooks.listed()] == ["order.add", "contact.edit"]


def test_an_address_that_does_not_send_the_secret_back_stays_unverified(keap: KeapServer, gateway: Served) -> None:
    crm = connect(keap)
    wrong = crm.subscribe(f"http://127.0.0.1:{gateway.port}/hooks/keap/{SECRET[1:]}", "order.add")
    nobody = crm.subscribe("http://127.0.0.1:1/", "order.add")
    assert [(hook.state, hook.works) for hook in (wrong, nobody)] == [("unverified", False)] * 2


@pytest.mark.parametrize(("status", "attempts"), [(500, 4), (429, 4), (410, 1)])
def test_a_hook_that_was_given_up_is_seen_and_verified_again(
    keap: KeapServer, gateway: Served, status: int, attempts: int
) -> None:
    crm = connect(keap)
    hook = crm.subscribe(address(gateway), "order.add")
    with answering(status) as elsewhere:
        keap.hooks.hooks[hook.key]["hookUrl"] = elsewhere
        keap.crm.add_order("1", at="2026-10-01T10:00:00Z")
        assert keap.hooks.deliver() == [status] * attempts
    (given_up,) = crm.subscriptions()
    assert (given_up.state, given_up.works) == ("inactive", False)
    keap.hooks.hooks[hook.key]["hookUrl"] = address(gateway)
    assert crm.verify(hook.key).works


def test_refusals_are_told_by_what_happens_next(keap: KeapServer) -> None:
    crm = connect(keap)
    assert type(raised_by(lambda: crm.subscribe("http://127.0.0.1:1/", "no.such.event"))) is Rejected
    assert type(raised_by(lambda: crm.verify("9"))) is NotFound
    assert type(raised_by(connect(keap, api_key="another").subscriptions)) is AccessDenied
    keap.fail_next(Fault(answer=Answer(200, [{"key": 1}])))
    assert type(raised_by(crm.subscriptions)) is Rejected


def test_hooks_are_kept_from_the_command_line(
    keap: KeapServer, app: Application, gateway: Served, console: Console
) -> None:
    use(app)
    assert console("connections", "hooks", "crm").out == "No hooks.\n"
    made = console("connections", "hooks", "crm", "--subscribe", address(gateway), "order.add", "contact.edit")
    assert (made.code, made.err) == (0, "")
    assert SECRET not in made.out
    rows = console("connections", "hooks", "crm", "--json").json
    shown = f"http://127.0.0.1:{gateway.port}/hooks/keap/…"
    assert [list(row.values()) for row in rows] == [
        ["1", "order.add", shown, "verified", True],
        ["2", "contact.edit", shown, "verified", True],
    ]
    keap.hooks.hooks["2"]["status"] = "Inactive"
    assert console("connections", "hooks", "crm").code == 1
    assert console("connections", "hooks", "crm", "--verify").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("shop",), 'connection "shop" has no hooks to keep'),
        (("nobody",), 'there is no connection "nobody"'),
        (("crm", "--subscribe", "https://shop.example/hooks/keap"), "takes an address and one event or more"),
        (("crm", "--subscribe", "order.add", "https://shop.example"), "takes an address and one event or more"),
    ],
)
def test_what_cannot_be_kept_is_explained(
    app: Application, console: Console, arguments: tuple[str, ...], said: str
) -> None:
    use(app)
    answer = console("connections", "hooks", *arguments)
    assert answer.code == 1
    assert said in answer.err


def test_what_was_never_told_is_asked_for_and_taken_in_once(
    keap: KeapServer, app: Application, gateway: Served, console: Console
) -> None:
    use(app)
    keap.crm.largest_page = 2
    crm = connect(keap)
    for event in ("order.add", "contact.edit"):
        crm.subscribe(address(gateway), event)
    keap.hooks.waiting.clear()
    told, missed = (keap.crm.add_order("1", at=now(), order_id=order_id) for order_id in ("2001", "2002"))
    keap.hooks.waiting = [("order.add", told)]
    assert keap.hooks.deliver() == [202]
    keap.crm.edit_contact("3", given_name="Lucia")
    keap.hooks.waiting.clear()
    before = len(waiting(app))
    said = console("connections", "reconcile", "crm", "keap", "--json")
    assert (said.err, said.json["missed"]) == ("", said.json["changes"] - 1)
    taken = [(hint["event_key"], hint["object_keys"][0]["id"]) for hint in waiting(app)[before:]]
    assert taken.count(("order.add", int(missed))) == 1
    assert ("order.add", int(told)) not in taken
    assert taken.count(("contact.edit", 3)) == 1
    assert (
        console("connections", "reconcile", "crm", "keap").out
        == f"{said.json['changes']} changes, 0 of them missed and taken in now.\n"
    )


def test_an_older_hint_does_not_cover_a_newer_change(keap: KeapServer, app: Application, gateway: Served) -> None:
    crm = connect(keap)
    crm.subscribe(address(gateway), "contact.edit")
    keap.hooks.waiting = [("contact.edit", "1")]
    assert keap.hooks.deliver() == [202]
    since = datetime.now(UTC) - timedelta(hours=1)
    settled = reconcile(app, crm, "keap", since)
    assert reconcile(app, crm, "keap", since).missed == 0
    keap.crm.contacts["1"]["update_time"] = f"{datetime.now(UTC) + timedelta(minutes=5):%Y-%m-%dT%H:%M:%S}.000Z"
    assert reconcile(app, crm, "keap", since) == (settled.changes, 1)


def test_older_changes_are_not_asked_for(keap: KeapServer) -> None:
    crm = connect(keap)
    assert crm.changes("order.add", datetime(2026, 9, 21, tzinfo=UTC)) != []
    assert [change.key for change in crm.changes("order.edit", datetime(2026, 9, 22, tzinfo=UTC))] == [
        "order.edit/1063"
    ]
    assert crm.changes("contact.add", datetime.now(UTC) + timedelta(days=1)) == []


@pytest.mark.parametrize(
    "payload", [None, [], {}, {"event_key": "order.add"}, {"event_key": 1, "object_keys": [{}]}, "x"]
)
def test_what_is_no_hint_tells_nothing(keap: KeapServer, payload: object) -> None:
    assert connect(keap).told(payload) == {}


def test_what_cannot_be_reconciled_is_explained(
    keap: KeapServer, app: Application, gateway: Served, console: Console
) -> None:
    use(app)
    assert 'there is no webhook "keep"; did you mean "keap"' in console("connections", "reconcile", "crm", "keep").err
    assert "nothing is sent to /hooks/keap" in console("connections", "reconcile", "crm", "keap").err
    connect(keap).subscribe(address(gateway), "note.add")
    assert "cannot be asked what note.add tells of" in console("connections", "reconcile", "crm", "keap").err


def now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


@contextmanager
def answering(status: int) -> Iterator[str]:
    """Serve an address that answers every call with this status."""

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()
