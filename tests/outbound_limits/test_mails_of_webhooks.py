"""What webhooks start is limited for each address."""

from __future__ import annotations

from orchestrator.record.record import Record
from tests.support.answering_shop import AnsweringShop
from tests.support.builtin import CLERK
from tests.support.clock import HandClock


def test_a_form_that_anybody_fills_in_buries_nobody(record: Record, clock: HandClock) -> None:
    shop = AnsweringShop(record, answers_per_day=3)
    for number in range(8):
        shop.fill_in(f"victim+{number}@example.com")
    shop.fill_in("tom@example.com")
    shop.work()
    assert (len(shop.mailer.sent), len(shop.held())) == (4, 5), "none may be lost"
    why = "its recipient had 3 automatic mails in a day ([webhooks.form] answers_per_day)"
    assert {held.note for held in shop.held()} == {
        f"{why}; let it go out with: orchestrator runs resume {run_id}" for run_id in shop.parked()
    }
    shop.runs.resume(shop.parked()[0], CLERK)
    clock.advance(hours=25)
    shop.fill_in("victim@example.com")
    shop.work()
    assert len(shop.mailer.sent) == 6


def test_what_webhooks_start_has_no_pause_and_trips_no_breaker(record: Record) -> None:
    shop = AnsweringShop(record, per_hour=2, answer_pause_seconds=300)
    for number in range(6):
        shop.fill_in(f"customer{number % 3}@example.com")
    shop.work()
    shop.receive("customer1@example.com")
    shop.receive("customer2@example.com")
    shop.work()
    assert (len(shop.mailer.sent), shop.held()) == (8, [])
