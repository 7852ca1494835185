"""Robots and strangers get few answers, and use up nothing that is for people who are known."""

from __future__ import annotations

from dataclasses import replace
from email.headerregistry import Address

from orchestrator.capabilities import (
    OutgoingMail,
)
from orchestrator.intake.mailboxes import MailIntake
from orchestrator.kernel.runs import RunState
from orchestrator.record.record import Record
from orchestrator_connectors.mail.message import compose
from tests.support.answering_shop import ACKNOWLEDGE, ANN, ECHO, AnsweringShop
from tests.support.clock import HandClock


def test_two_robots_face_to_face_exchange_one_mail_each(record: Record) -> None:
    shop = AnsweringShop(record, answer_pause_seconds=300)
    shop.receive("robot@elsewhere.example")
    seen = 0
    for _ in range(20):
        shop.work()
        for mail in shop.mailer.sent[seen:]:  # a robot that answers each mail, and says nowhere that it is one
            shop.receive(mail.to)
        seen = len(shop.mailer.sent)
    assert len(shop.mailer.sent) == 1
    assert len(shop.held()) == 1


def test_a_robot_of_our_own_kind_gets_no_answer_at_all(record: Record) -> None:
    shop = AnsweringShop(record)
    for number in range(3):
        mail = OutgoingMail(to="support@shop.example", subject="I lost my download", text="t", in_reply_to="<a@b.de>")
        sender = Address(username="support", domain="elsewhere.example")
        shop.mailbox.deliver(compose(mail, sender=sender, identifier=f"<f-{number}@elsewhere.example>").as_bytes())
    MailIntake(record, shop.runs).take_in(shop._source)
    for found in shop.inbox.listed(limit=10):
        assert shop.inbox.read(found.delivery).automatic == "auto-submitted"


def test_beyond_the_breaker_everything_waits_for_a_person_who_sees_why(record: Record, clock: HandClock) -> None:
    shop = AnsweringShop(record, per_hour=3)
    for number in range(5):
        shop.receive(f"customer{number}@example.com")
    shop.work()
    assert len(shop.mailer.sent) == 3
    held = shop.held()
    (run_id, other) = shop.parked()
    why = "3 automatic answers went out in an hour ([answers] per_hour)"
    assert {delivery.note for delivery in held} == {
        f"{why}; let it go out with: orchestrator runs resume {run}" for run in (run_id, other)
    }
    with record.store.read() as tx:
        event = record.trail.chain(tx, run_id)[-1]
    assert (event.kind, event.data["error"]) == ("run.parked", "Held")
    assert event.data["reason"] in {delivery.note for delivery in held}
    clock.advance(minutes=61)
    shop.receive("another@example.com")
    shop.work()
    assert len(shop.mailer.sent) == 4


def test_what_strangers_use_up_holds_nobody_who_is_proven(record: Record) -> None:
    shop = AnsweringShop(record, per_hour=3, answers_per_day=2, answer_pause_seconds=300)
    for number in range(60):
        shop.receive(f"customer{number}@example.com")
    for _ in range(3):
        shop.receive()
    shop.receive(proven=True)
    shop.work()
    assert [mail.to for mail in shop.mailer.sent[:3]] == [f"customer{number}@example.com" for number in range(3)]
    assert [mail.to for mail in shop.mailer.sent[3:]] == [ANN]
    assert len(shop.held()) == 60


def test_unproven_strangers_share_a_few_acknowledgements_and_none_is_held(record: Record, clock: HandClock) -> None:
    shop = AnsweringShop(record, ACKNOWLEDGE)
    for number in range(60):
        shop.receive(f"stranger{number}@example.com")
    shop.work()
    assert (len(shop.mailer.sent), shop.held(), shop.parked()) == (5, [], [])
    shop.receive("proven@example.com", proven=True)
    shop.work()
    assert shop.mailer.sent[-1].to == "proven@example.com"
    clock.advance(minutes=61)
    shop.receive("stranger60@example.com")
    shop.work()
    assert len(shop.mailer.sent) == 7


def test_what_was_left_out_stays_left_out_and_says_why(record: Record) -> None:
    shop = AnsweringShop(record, ACKNOWLEDGE, answers_per_day=1)
    for _ in range(2):
        shop.receive()
    shop.work()
    (left_out,) = [run for run in shop.runs.listed(limit=9) if shop.chain(run.run_id)[-2].kind == "step.refused"]
    why = "its recipient had 1 automatic mails in a day ([mailboxes.support] answers_per_day)"
    result = shop.chain(left_out.run_id)[-1]
    assert (result.kind, result.data["result"], left_out.state) == ("run.finished", why, RunState.DONE)


def test_acknowledgements_and_answers_are_in_nobodys_way(record: Record) -> None:
    shop = AnsweringShop(record, ACKNOWLEDGE, answers_per_day=1, answer_pause_seconds=300)
    shop.receive()
    shop.work()
    shop._source = replace(shop._source, process=ECHO)
    shop.receive()
    shop.work()
    assert [mail.acknowledges for mail in shop.mailer.sent] == [True, False]
