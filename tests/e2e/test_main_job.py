"""A customer's mail comes in, a fresh link goes out: real servers and connectors, without Prefect."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.lost_download import AGAIN, BOUGHT_AS
from orchestrator.bootstrap import Application
from orchestrator.builtin.inbox import DeliveryState
from orchestrator.capabilities import Decision
from orchestrator.kernel.consistency import audit
from orchestrator.kernel.runs import RunState
from orchestrator.record.trail import Actor
from orchestrator.sandbox.mail_server import MailServer
from orchestrator.sandbox.object_store import ObjectStore
from orchestrator.sandbox.shop import create_shop
from orchestrator.sandbox.systems import PASSWORD, STRANGER, SUPPORT, customers
from orchestrator.settings import load_settings
from tests.support.paths import MAILS, ROOT
from tests.support.scenario import ANNA, DRESS, LUCIA, NEUTRAL, SWEATER, TOM, Scenario, download, links_in

CLERK = Actor(name="operator:ann", auth="os user")


@pytest.fixture(scope="module")
def files() -> Iterator[ObjectStore]:
    with ObjectStore(bucket="main-job") as store:
        yield store


@pytest.fixture
def post() -> Iterator[MailServer]:
    with MailServer(dict.fromkeys([SUPPORT, STRANGER, *customers()], PASSWORD)) as server:
        yield server


@pytest.fixture
def story(tmp_path: Path, files: ObjectStore, post: MailServer) -> Iterator[Scenario]:
    shop = create_shop(tmp_path / "shop.db")
    overrides = {
        "STORE__URL": f"sqlite:///{tmp_path}/record.db",
        "STORE__KEY_FILE": f"{tmp_path}/keys/kek",
        "CONNECTIONS__SHOP__URL": shop.url,
        "CONNECTIONS__FILES__ENDPOINT_URL": files.endpoint_url,
        "CONNECTIONS__FILES__BUCKET": files.bucket,
        "CONNECTIONS__SUPPORT_MAIL__SMTP__PORT": str(post.smtp_port),
        "CONNECTIONS__SUPPORT_MAIL__IMAP__PORT": str(post.imap_port),
        "MAILBOXES__SUPPORT__FROM_BEGINNING": "true",
    }
    config = ROOT / "config" / "sandbox.toml"
    settings = load_settings(config, {f"ORCHESTRATOR_{name}": value for name, value in overrides.items()})
    # IMAP tells whole seconds: with our clock behind, what is written after an answer also came after it.
    app = Application(settings, clock=lambda: datetime.now(UTC) - timedelta(minutes=5))
    yield Scenario(app, post)
    app.record.store.close()


def test_a_lost_download_is_answered_below_the_mail_with_a_link_to_the_very_file(
    story: Scenario, files: ObjectStore
) -> None:
    story.write(f"Anna Berg <{ANNA}>", "I lost my download", Message_ID="<lost-1@mail.example.com>")
    story.work()
    (reply,) = story.mailbox(ANNA)
    assert (reply["From"], reply["To"]) == ("Sandbox Shop <support@shop.example>", ANNA)
    assert (reply["Subject"], reply["Auto-Submitted"]) == ("Your download", "auto-replied")
    assert (reply["In-Reply-To"], reply["References"]) == ("<lost-1@mail.example.com>", "<lost-1@mail.example.com>")
    (link,) = links_in(reply)
    assert download(link) == files.files[DRESS]
    assert story.ended() == {("support-inbox", RunState.DONE), ("lost-download", RunState.DONE)}
    assert story.states() == ["settled"]
    found = audit(story.app.record)
    assert (found.is_sound, found.chains) == (True, 2)


def test_a_robot_that_answers_everything_gets_one_mail(story: Scenario) -> None:
    story.write(STRANGER, "I lost my download")
    answered = 0
    for _ in range(4):
        story.work()
        mails = story.mailbox(STRANGER)
        for mail in mails[answered:]:
            story.write(STRANGER, f"Re: {mail['Subject']}", "I lost my download")
        answered = len(mails)
    assert answered == 1
    assert sorted(story.states()) == ["for-person", "settled"]


def test_the_whole_job_stands_in_the_trail(story: Scenario) -> None:
    story.write(ANNA, "I lost my download")
    story.work()
    run = next(run for run in story.app.runs.listed(limit=10) if run.process == "lost-download")
    with story.app.record.store.read() as tx:
        events = story.app.record.trail.chain(tx, run.run_id)
    assert [(event.kind, event.context.connection, event.context.operation) for event in events] == [
        ("run.opened", None, None),
        ("step.answered", "shop", "purchases_of"),
        ("step.answered", "files", "exists"),
        ("step.answered", "files", "link_to"),
        ("effect.intent", "support_mail", "send"),
        ("effect.attempt", "support_mail", "send"),
        ("effect.outcome", "support_mail", "send"),
        ("run.finished", None, None),
    ]
    (triage,) = [run for run in story.app.runs.listed(limit=10) if run.process == "support-inbox"]
    assert events[0].actor == Actor(name=f"run:{triage.run_id}", auth="process")
    assert run.parent_run_id == triage.run_id


def test_a_customer_who_writes_three_times_has_one_case_and_one_answer(story: Scenario) -> None:
    for subject in ("I lost my download", "WHERE IS MY DOWNLOAD???", "Please send my download again!"):
        story.write(ANNA, subject)
    story.work()
    assert [mail["Subject"] for mail in story.mailbox(ANNA)] == ["Your download"]
    assert len({found.case_id for found in story.deliveries()}) == 1
    assert story.states() == ["settled"] * 3
    story.write(ANNA, "Re: Your download", "The link does not work.")
    story.work()
    assert len(story.mailbox(ANNA)) == 1
    (kept,) = story.app.inbox.listed(state=DeliveryState.FOR_PERSON, limit=10)
    assert kept.note == "they wrote again after our answer"


def test_loose_words_choose_among_what_was_bought(story: Scenario, files: ObjectStore) -> None:
    story.write(TOM, "Lost pattern", "Hi,\n\nI can't find my raglan thing, my laptop was stolen.\n\nTom")
    story.work()
    (reply,) = story.mailbox(TOM)
    assert [download(link) for link in links_in(reply)] == [files.files[SWEATER]]


def test_a_link_goes_to_the_order_whatever_the_header_asks_for(story: Scenario) -> None:
    tricks = ("Reply_To", "Cc", "Resent_From", "Return_Path", "Sender", "Errors_To")
    story.write(ANNA, "I lost my download", **dict.fromkeys(tricks, STRANGER))
    story.work()
    assert story.mailbox(STRANGER) == []
    assert [len(links_in(mail)) for mail in story.mailbox(ANNA)] == [1]


def test_a_robot_gets_no_answer(story: Scenario) -> None:
    story.write(ANNA, "I lost my download", Auto_Submitted="auto-replied")
    story.write(ANNA, "I lost my download", List_Id="<news.example.com>")
    story.write(ANNA, "I lost my download", Precedence="bulk")
    story.write(ANNA, "I lost my download", X_Auto_Response_Suppress="All")
    story.work()
    assert story.mailbox(ANNA) == []
    assert {(found.state.value, found.note) for found in story.deliveries()} == {
        ("settled", "not answered: auto-submitted"),
        ("settled", "not answered: mailing list"),
        ("settled", "not answered: bulk mail"),
        ("settled", "not answered: automatic answers refused"),
    }


def test_mail_of_our_own_that_comes_back_gets_no_answer(story: Scenario) -> None:
    story.write(ANNA, "I lost my download")
    story.work()
    (raw,) = story.raw_mailbox(ANNA)
    story.write_raw(raw.replace(b"Auto-Submitted: auto-generated\r\n", b""))
    story.write(ANNA, "I lost my download", Message_ID=str(story.mailbox(ANNA)[0]["Message-ID"]))
    story.write(SUPPORT, "I lost my download")
    story.work()
    assert len(story.mailbox(ANNA)) == 1
    assert Counter(found.note for found in story.deliveries())["not answered: our own mail"] == 2
    assert [found.note for found in story.deliveries() if found.state == "for-person"] == [
        "it comes from an address of ours, as a contact form or a colleague may write"
    ]


def test_what_a_machine_cannot_judge_is_kept_to_the_byte_for_a_person(story: Scenario) -> None:
    names = ("bounce-report", "bounce-plain", "broken-boundary", "unknown-charset", "garbage")
    written = [(MAILS / f"{name}.eml").read_bytes() for name in names]
    for raw in written:
        story.write_raw(raw)
    story.work()
    kept = story.deliveries()
    assert [(found.state, bool(found.note)) for found in kept] == [(DeliveryState.FOR_PERSON, True)] * len(names)
    stored = [story.app.inbox.raw(found.delivery)[0] for found in kept]
    assert sorted(map(_lines, stored)) == sorted(map(_lines, written))
    assert all(story.app.inbox.read(found.delivery).delivery == found.delivery for found in kept)
    assert story.ended() == {("support-inbox", RunState.DONE)}


def test_a_request_for_a_refunded_thing_is_answered_neutrally_and_asked_about(story: Scenario) -> None:
    story.write(LUCIA, "I lost my zippers video course", "Please send the link again.")
    story.work()
    assert [(mail["Subject"], links_in(mail)) for mail in story.mailbox(LUCIA)] == [(NEUTRAL, [])]
    (asked,) = story.app.people.open_questions()
    assert asked.question.title == "A customer asks for a download whose order was refunded"


def test_who_writes_again_while_a_person_is_asked_is_not_filed_away(story: Scenario) -> None:
    story.write(STRANGER, "I lost my download")
    story.work()
    story.write(STRANGER, "Re: We are looking into it", f"I lost the link, but bought as {ANNA}.")
    story.work()
    assert sorted(story.states()) == ["for-person", "settled"]
    assert len(story.mailbox(STRANGER)) == 1
    assert len(story.app.people.open_questions()) == 1


def test_who_bought_with_another_address_gets_the_link_there_after_a_persons_word(
    story: Scenario, files: ObjectStore
) -> None:
    story.write(STRANGER, "I lost my download", "I bought the linen dress.", Message_ID="<s-1@example.com>")
    story.work()
    (neutral,) = story.mailbox(STRANGER)
    assert (neutral["Subject"], neutral["In-Reply-To"], links_in(neutral)) == (NEUTRAL, "<s-1@example.com>", [])
    (asked,) = story.app.people.open_questions()
    assert asked.question.known.startswith(f"The customer writes from: {STRANGER}\n")
    story.app.people.answer(asked.question_id, Decision(option=BOUGHT_AS.key, text=ANNA), CLERK)
    story.work()
    (reply,) = story.mailbox(ANNA)
    assert [download(link) for link in links_in(reply)] == [files.files[DRESS]]
    assert reply["In-Reply-To"] is None
    assert len(story.mailbox(STRANGER)) == 1
    assert story.ended() == {("support-inbox", RunState.DONE), ("lost-download", RunState.DONE)}


def test_looking_again_sends_no_second_neutral_mail(story: Scenario) -> None:
    story.write(STRANGER, "I lost my download")
    story.work()
    for _ in range(2):
        (asked,) = story.app.people.open_questions()
        story.app.people.answer(asked.question_id, Decision(option=AGAIN.key), CLERK)
        story.work()
    assert [mail["Subject"] for mail in story.mailbox(STRANGER)] == [NEUTRAL]
    assert len(story.app.people.open_questions()) == 1


def test_no_address_no_name_and_no_link_lies_open_in_the_database_or_in_the_log(
    story: Scenario, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.WARNING, logger="mail.log")  # the provider's own, in this process only here
    story.write(f"Anna Zzyzx <{ANNA}>", "I lost my qwertzuiop download", Message_ID="<canary-id@mail.example.com>")
    story.write(f"Stranger Zzyzx <{STRANGER}>", "I lost my qwertzuiop download")
    story.write_raw((MAILS / "garbage.eml").read_bytes())
    story.work()
    (asked,) = story.app.people.open_questions()
    story.app.people.answer(asked.question_id, Decision(option=BOUGHT_AS.key, text=TOM), CLERK)
    story.work()
    links = [link for address in (ANNA, TOM) for mail in story.mailbox(address) for link in links_in(mail)]
    signatures = [found for link in links for found in re.findall(r"Signature=([^&\s]+)", link)]
    assert len(signatures) == len(links) == 4
    canaries = [
        ANNA,
        STRANGER,
        TOM,
        "anna.berg",
        "Zzyzx",
        "qwertzuiop",
        "canary-id",
        "Anna Berg",
        "S-1041",
        *signatures,
    ]
    places = {path.name: path.read_bytes() for path in tmp_path.glob("record.db*")}
    assert b"run.finished" in b"".join(places.values())
    places["log"] = caplog.text.encode()
    assert [(name, canary) for name, seen in places.items() for canary in canaries if canary.encode() in seen] == []


def _lines(raw: bytes) -> list[bytes]:
    """Return the lines of a mail: SMTP ends each with CR LF, and the last one too."""
    return raw.replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n")
