"""A customer's mail comes in and a fresh link goes out, all through Gmail; the customer's own provider is another."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest

from orchestrator.bindings.guard import ConnectionState
from orchestrator.bootstrap import Application
from orchestrator.capabilities import OutgoingMail
from orchestrator.errors import RunPostponed
from orchestrator.kernel.runs import RunState
from orchestrator.sandbox.gmail import GmailBox, GmailServer, refusal, smtp_to
from orchestrator.sandbox.mail_server import MailServer
from orchestrator.sandbox.object_store import ObjectStore
from orchestrator.sandbox.shop import create_shop
from orchestrator.sandbox.systems import PASSWORD, STRANGER, SUPPORT, customers
from orchestrator.settings import load_settings
from orchestrator.testing.http_server import Fault
from orchestrator.worker.proving import prove_once
from orchestrator.worker.watch import look_again
from tests.support.gmail_account import granted
from tests.support.paths import ROOT
from tests.support.scenario import ANNA, DRESS, LUCIA, Scenario, download, links_in

BEHIND = timedelta(minutes=5)


class PatientStory(Scenario):
    """What is put off for later stays there until the clock has moved."""

    def work(self) -> None:
        with suppress(RunPostponed):
            super().work()


class Clock:
    ahead = -BEHIND

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture(scope="module")
def files() -> Iterator[ObjectStore]:
    with ObjectStore(bucket="gmail-main-job") as store:
        yield store


@pytest.fixture
def box() -> GmailBox:
    return GmailBox(SUPPORT)


@pytest.fixture
def post(box: GmailBox) -> Iterator[MailServer]:
    with MailServer(dict.fromkeys([STRANGER, *customers()], PASSWORD), routes={SUPPORT: box.deliver}) as server:
        yield server


@pytest.fixture
def gmail(box: GmailBox, post: MailServer) -> Iterator[GmailServer]:
    with GmailServer(box, deliver=smtp_to(post.smtp_port)) as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def story(tmp_path: Path, files: ObjectStore, post: MailServer, gmail: GmailServer, clock: Clock) -> Iterator[Scenario]:
    granted(gmail, tmp_path / "token")
    overrides = {
        "STORE__URL": f"sqlite:///{tmp_path}/record.db",
        "STORE__KEY_FILE": f"{tmp_path}/keys/kek",
        "CONNECTIONS__SHOP__URL": create_shop(tmp_path / "shop.db").url,
        "CONNECTIONS__FILES__ENDPOINT_URL": files.endpoint_url,
        "CONNECTIONS__FILES__BUCKET": files.bucket,
        "CONNECTIONS__GMAIL__APP__TOKEN_FILE": str(tmp_path / "token"),
        "CONNECTIONS__GMAIL__ENDPOINT_URL": gmail.url,
        "CONNECTIONS__GMAIL__TOKEN_URL": f"{gmail.url}/token",
        "CONNECTIONS__GMAIL__VISIBILITY_DELAY_SECONDS": "60",
        "BINDINGS__MAILER": "gmail",
        "MAILBOXES__SUPPORT__CONNECTION": "gmail",
    }
    config = ROOT / "config" / "sandbox.toml"
    settings = load_settings(config, {f"ORCHESTRATOR_{name}": value for name, value in overrides.items()})
    app = Application(settings, clock=clock)
    yield PatientStory(app, post)
    app.record.store.close()


def test_a_lost_download_is_answered_through_gmail(story: Scenario, box: GmailBox, files: ObjectStore) -> None:
    story.write(f"Anna Berg <{ANNA}>", "Your download", "I lost my download.", Message_ID="<lost-1@mail.example.com>")
    story.work()
    (reply,) = story.mailbox(ANNA)
    assert (reply["From"], reply["To"]) == ("Sandbox Shop <support@shop.example>", ANNA)
    assert (reply["In-Reply-To"], reply["Auto-Submitted"]) == ("<lost-1@mail.example.com>", "auto-replied")
    (link,) = links_in(reply)
    assert download(link) == files.files[DRESS]
    assert story.ended() == {("support-inbox", RunState.DONE), ("lost-download", RunState.DONE)}
    assert len({mail.thread_id for mail in box.mails.values()}) == 1, "both lie in one conversation"


def test_a_mail_whose_answer_was_lost_is_looked_up_and_not_sent_again(
    story: Scenario, gmail: GmailServer, clock: Clock
) -> None:
    story.write(ANNA, "I lost my download")
    gmail.fail_next(Fault(acts=True), on="messages.send")
    story.work()
    assert ("lost-download", RunState.DONE) not in story.ended()
    clock.ahead += timedelta(minutes=10)
    story.work()
    assert story.ended() == {("support-inbox", RunState.DONE), ("lost-download", RunState.DONE)}
    assert len(story.mailbox(ANNA)) == 1
    assert gmail.calls.count("messages.send") == 1


def test_a_mail_that_was_lost_on_its_way_is_sent_after_all_once_sent_mail_has_been_found(
    story: Scenario, gmail: GmailServer, clock: Clock
) -> None:
    prove_once(story.app, Event())
    story.write(LUCIA, "I lost my download")
    story.work()
    clock.ahead += timedelta(minutes=10)
    prove_once(story.app, Event())
    story.write(ANNA, "I lost my download")
    gmail.fail_next(Fault(), Fault(answer=refusal(429, "rateLimitExceeded")), on="messages.send")
    for _ in range(3):
        story.work()
        clock.ahead += timedelta(minutes=10)
    assert len(story.mailbox(ANNA)) == 1
    assert gmail.calls.count("messages.send") == 1 + 3
    assert story.ended() == {("support-inbox", RunState.DONE), ("lost-download", RunState.DONE)}


def test_a_run_waits_while_access_is_revoked_and_goes_on_once_it_is_granted_again(
    story: Scenario, gmail: GmailServer, tmp_path: Path
) -> None:
    story.write(ANNA, "I lost my download")
    story.app.intake.take_in(story.app.sources()[0])
    gmail.consents.revoke(json.loads((tmp_path / "token").read_text())["refresh_token"])
    gmail.consents.forget_access()
    story.execute_due()
    (ailing,) = story.app.health.ailing()
    assert (ailing.connection, ailing.state) == ("gmail", ConnectionState.DENIED)
    assert "run: orchestrator connections authorize" in ailing.reason
    look_again(story.app)
    assert story.mailbox(ANNA) == []
    granted(gmail, tmp_path / "token")
    look_again(story.app)
    story.work()
    assert len(story.mailbox(ANNA)) == 1
    assert story.ended() == {("support-inbox", RunState.DONE), ("lost-download", RunState.DONE)}


def test_the_record_holds_no_token_and_no_address(story: Scenario, gmail: GmailServer, tmp_path: Path) -> None:
    story.write(ANNA, "I lost my download")
    story.work()
    record = b"".join(path.read_bytes() for path in tmp_path.glob("record.db*"))
    tokens = re.findall(r"(?:ya29\.|1//)[\w-]+", (tmp_path / "token").read_text())
    assert len(tokens) == 2
    assert [canary for canary in (ANNA, *tokens) if canary.encode() in record] == []


def test_a_mail_to_nobody_comes_back(box: GmailBox, story: Scenario) -> None:
    mail = OutgoingMail(to="nobody@elsewhere.example", subject="s", text="t")
    story.app.connections.get("gmail").send(mail, effect_id="effect-1")
    (bounce,) = [mail for mail in box.mails.values() if "INBOX" in mail.labels]
    assert bounce.header("In-Reply-To") == "<effect-1@shop.example>"
