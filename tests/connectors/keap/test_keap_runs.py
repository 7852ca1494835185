"""Runs that look up, tag and note in Keap while it fails: each effect happens once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.bindings.guard import ConnectionState
from orchestrator.bootstrap import Application
from orchestrator.capabilities import Contacts, OrderRecords, Private, Value
from orchestrator.errors import RunError
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.runs import Run, RunState
from orchestrator.plugins.host import PluginHost
from orchestrator.record.verify import verify
from orchestrator.sandbox.keap import KeapServer
from orchestrator.testing.http_server import Answer, Fault
from orchestrator.toolkit.tokens import TokenStore, tokens_from
from orchestrator.worker.watch import look_again
from tests.support.configurations import load
from tests.support.keap_account import ANNA, account
from tests.support.plugins import with_processes
from tests.support.webhooks import Process

CONFIG = """
bindings.order_records = "crm"
bindings.contacts = "crm"
[store]
url = "sqlite:///{folder}/record.db"
key_file = "{folder}/keys/kek"
[connections.crm]
connector = "keap"
client_id = "{keap.gate.client_id}"
client_secret = "{keap.gate.client_secret}"
token_file = "{folder}/token"
base_url = "{keap.base_url}"
token_url = "{keap.token_url}"
known_email = "anna.berg@example.com"
note_user = "1"
assets.LINEN-SUMMER-DRESS = "patterns/linen-summer-dress.zip"
"""


class Customer(Value):
    email: Private[str]


def thank(customer: Customer, *, orders: OrderRecords, contacts: Contacts) -> str:
    """Thank a customer."""
    bought = orders.purchases_of(customer.email)
    contacts.tag(customer.email, "thanked")
    contacts.note(customer.email, f"Thanked for {len(bought)} purchases.")
    return "thanked"


class Clock:
    ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Shop:
    """An application over a Keap account."""

    def __init__(self, keap: KeapServer, folder: Path) -> None:
        self.keap, self.clock = keap, Clock()
        self.tokens = TokenStore(path=folder / "token")
        self.authorize()
        settings = load(folder, CONFIG.format(folder=folder, keap=keap))
        plugins = PluginHost(extra={"thanks": with_processes(Process(ProcessDefinition("thank", thank)))})
        self.app = Application(settings, plugins=plugins, clock=self.clock)

    def authorize(self) -> None:
        self.tokens.keep(tokens_from(self.keap.gate.new_tokens(), now=datetime.now(UTC)))

    def thank(self) -> Run:
        self.run_id = self.app.open_run(self.app.definition("thank"), Customer(email=ANNA))
        return self.go_on()

    def go_on(self, later: timedelta = timedelta(0)) -> Run:
        self.clock.ahead += later
        with suppress(RunError):
            self.app.kernel.execute(self.app.definition("thank"), self.run_id)
        with self.app.record.store.read() as tx:
            return self.app.runs.get(tx, self.run_id)

    def done(self) -> tuple[list[str], int]:
        """Return the tags and the number of notes in the account."""
        tags = [self.keap.crm.tags[tag]["name"] for tag in self.keap.crm.applied.get("1", ())]
        return tags, len(self.keap.crm.notes)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with account() as keap:
        shop = Shop(keap, tmp_path)
        yield shop
        with shop.app.record.store.read() as tx:
            assert not verify(tx).breaches
        shop.app.record.store.close()


def test_a_run_looks_up_tags_and_notes(shop: Shop) -> None:
    assert shop.thank().state is RunState.DONE
    assert shop.done() == (["thanked"], 1)


@pytest.mark.parametrize("change", [1, 2, 3])
def test_a_change_whose_answer_was_lost_happens_once(shop: Shop, change: int) -> None:
    """The tag is made, the tag is applied, the note is written."""
    shop.keap.fail_next(*[None] * (change - 1), Fault(acts=True), on="POST /crm")
    assert shop.thank().state is not RunState.DONE
    assert shop.go_on(timedelta(minutes=10)).state is RunState.DONE
    assert shop.done() == (["thanked"], 1)


@pytest.mark.parametrize("change", [1, 2, 3])
@pytest.mark.parametrize(("status", "headers"), [(503, {"Retry-After": "0"}), (500, {}), (302, {"Location": "/"})])
def test_a_change_that_is_done_and_answered_as_if_it_were_not_happens_once(
    shop: Shop, change: int, status: int, headers: dict[str, str]
) -> None:
    failed = Fault(acts=True, answer=Answer(status, None, headers))
    shop.keap.fail_next(*[None] * (change - 1), failed, on="POST /crm")
    assert shop.thank().state is not RunState.DONE
    look_again(shop.app)
    for _ in range(2):
        ended = shop.go_on(timedelta(minutes=10))
    assert ended.state is RunState.DONE
    assert shop.done() == (["thanked"], 1)


@pytest.mark.parametrize("status", [500, 503, 504])
def test_a_change_that_failed_on_their_side_happens_after_all(shop: Shop, status: int) -> None:
    shop.keap.refuse(status, on="POST")
    assert shop.thank().state is not RunState.DONE
    assert shop.go_on(timedelta(minutes=10)).state is RunState.DONE
    assert shop.done() == (["thanked"], 1)


def test_an_access_token_that_ends_in_the_middle_is_not_noticed(shop: Shop) -> None:
    shop.keap.refuse(401, on="POST")
    assert shop.thank().state is RunState.DONE
    assert (shop.done(), shop.keap.gate.refreshes) == ((["thanked"], 1), 1)


def test_a_run_waits_while_access_is_revoked_and_goes_on_once_it_is_granted_again(shop: Shop) -> None:
    shop.keap.gate.revoke()
    assert shop.thank().state is RunState.PARKED
    (ailing,) = shop.app.health.ailing()
    assert (ailing.connection, ailing.state) == ("crm", ConnectionState.DENIED)
    assert "run: orchestrator connections authorize" in ailing.reason
    look_again(shop.app)
    assert shop.app.health.ailing() != []
    shop.authorize()
    look_again(shop.app)
    assert shop.app.health.ailing() == []
    assert shop.go_on().state is RunState.DONE
    assert shop.done() == (["thanked"], 1)


def test_no_address_and_no_token_lies_open_in_the_record(shop: Shop, tmp_path: Path) -> None:
    shop.keap.fail_next(Fault(answer=Answer(500, ANNA.encode())), on="POST")
    shop.thank()
    shop.go_on(timedelta(minutes=10))
    tokens = shop.tokens.read()
    record = b"".join(path.read_bytes() for path in tmp_path.glob("record.db*"))
    assert b"run.finished" in record
    canaries = (ANNA, "Thanked for", tokens.access_token, tokens.refresh_token)
    assert [canary for canary in canaries if canary.encode() in record] == []
