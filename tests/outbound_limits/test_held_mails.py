"""What is beyond a limit waits for a person, whose word lets it go out."""

from __future__ import annotations

from orchestrator.outbound_limits.answers import held_runs
from orchestrator.record.record import Record
from tests.support.answering_shop import ASK_FIRST, ASK_FIRST_YES, ASK_FOR_AN_HOUR, PASS_ON, AnsweringShop
from tests.support.builtin import CLERK
from tests.support.clock import HandClock


def test_what_a_person_lets_go_on_goes_out_and_its_mail_still_waits_for_them(record: Record) -> None:
    shop = AnsweringShop(record, answers_per_day=1)
    for _ in range(2):
        shop.receive()
    shop.work()
    (run_id,) = shop.parked()
    shop.runs.resume(run_id, CLERK)
    shop.work()
    assert len(shop.mailer.sent) == 2
    assert shop.counted() == 1
    assert [delivery.run_id for delivery in shop.held()] == [run_id], "filing by the process does not take it away"


def test_all_mails_that_were_held_are_found_but_those_that_somebody_dealt_with(record: Record) -> None:
    shop = AnsweringShop(record, PASS_ON, answers_per_day=1)
    for _ in range(4):
        shop.receive()
    shop.fill_in()
    shop.fill_in()
    shop.work()
    assert sorted(held_runs(record)) == sorted(shop.parked())
    by_hand = next(delivery for delivery in shop.held() if delivery.source == "support")
    shop.inbox.close(by_hand.delivery, CLERK)
    left = held_runs(record)
    assert len(left) == 3
    for run_id in left:
        shop.runs.resume(run_id, CLERK)
    shop.work()
    assert (len(shop.mailer.sent), held_runs(record), len(shop.parked())) == (2 + 3, [], 1)


def test_a_run_that_asks_a_person_is_not_held(record: Record) -> None:
    shop = AnsweringShop(record, ASK_FIRST)
    shop.receive()
    shop.work()
    assert (len(shop.parked()), held_runs(record)) == (1, [])


def test_what_a_person_decided_is_not_limited(record: Record) -> None:
    shop = AnsweringShop(record, ASK_FIRST, answers_per_day=1, answer_pause_seconds=300)
    for _ in range(3):
        shop.receive()
    shop.work()
    for question in shop.people.open_questions():
        shop.people.answer(question.question_id, ASK_FIRST_YES, CLERK)
    shop.work()
    assert len(shop.mailer.sent) == 3


def test_a_deadline_is_no_persons_word(record: Record, clock: HandClock) -> None:
    shop = AnsweringShop(record, ASK_FOR_AN_HOUR, answers_per_day=1)
    for _ in range(3):
        shop.receive()
    shop.work()
    clock.advance(hours=1)
    shop.people.pass_deadlines()
    shop.work()
    assert (len(shop.mailer.sent), len(shop.held())) == (1, 2)
