"""One address gets so many automatic mails a day, in whatever spelling, and whatever started them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from orchestrator.errors import Unavailable
from orchestrator.intake.mailboxes import MailIntake
from orchestrator.kernel.runs import Opening, RunState, new_run_id
from orchestrator.outbound_limits.answers import counted_as
from orchestrator.record.record import Record
from orchestrator.record.tables import automatic_answer
from tests.support.answering_shop import ANN, PASS_ON, SERVE, AnsweringShop, Asked
from tests.support.builtin import CLERK
from tests.support.clock import HandClock
from tests.support.deep import cases


def test_a_thousand_requests_for_one_victim_are_few_mails(record: Record) -> None:
    shop = AnsweringShop(record, answers_per_day=3)
    requests = cases(40, 1000)
    spellings = ["victim@gmail.com", "Victim+{}@gmail.com", "v.i.c.t.i.m@gmail.com", "vic.tim+{}@googlemail.com"]
    for number in range(requests):
        shop.receive(spellings[number % len(spellings)].format(number))
    shop.work()
    assert len(shop.mailer.sent) == 3
    assert (len(shop.held()), len(shop.parked())) == (requests - 3, requests - 3), "none may be lost"


def test_the_limit_is_one_of_an_address_and_a_day(record: Record, clock: HandClock) -> None:
    shop = AnsweringShop(record, answers_per_day=2)
    for sender in (ANN, ANN, ANN, "tom@example.com"):
        shop.receive(sender)
    shop.work()
    assert [mail.to for mail in shop.mailer.sent] == [ANN, ANN, "tom@example.com"]
    clock.advance(hours=23)
    shop.receive()
    shop.work()
    assert len(shop.mailer.sent) == 3
    clock.advance(hours=2)
    shop.receive()
    shop.work()
    assert len(shop.mailer.sent) == 4
    assert shop.counted() == 1, "what is older than a day is forgotten"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("Ann@Example.com ", "ann@example.com"),
        ("ann+shop@example.com", "ann@example.com"),
        ("a.n.n@example.com", "a.n.n@example.com"),
        ("a.n.n+x@googlemail.com", "ann@gmail.com"),
        ("+x@example.com", "+x@example.com"),
        ("nobody", "@nobody"),
    ],
)
def test_spellings_of_one_mailbox_count_as_one(address: str, expected: str) -> None:
    assert counted_as(address) == expected


def test_no_address_lies_open_where_answers_are_counted(record: Record) -> None:
    shop = AnsweringShop(record)
    shop.receive()
    shop.work()
    with record.store.read() as tx:
        assert "example.com" not in str(tx.execute(select(automatic_answer)).all())


def test_a_mail_that_is_tried_again_counts_once(record: Record, clock: HandClock) -> None:
    shop = AnsweringShop(record, answers_per_day=1)
    shop.mailer.fail_next(Unavailable("down", no_effect=True))
    shop.receive()
    shop.work()
    assert not shop.mailer.sent
    clock.advance(minutes=5)
    shop.work()
    assert (len(shop.mailer.sent), shop.counted(), shop.held()) == (1, 1, [])


def test_workers_that_answer_at_once_keep_the_limits_together(record: Record) -> None:
    shop = AnsweringShop(record, answers_per_day=3)
    for _ in range(12):
        shop.receive()
        shop.fill_in()
    MailIntake(record, shop.runs).take_in(shop._source)
    with ThreadPoolExecutor(6) as workers:
        list(workers.map(shop.execute, shop.runs.due(limit=100)))
    assert len(shop.mailer.sent) == 3 + 3
    assert len(shop.held()) == 9 + 9


def test_a_process_that_is_started_by_another_has_the_limits_of_the_mail(record: Record) -> None:
    shop = AnsweringShop(record, PASS_ON, answers_per_day=1)
    for _ in range(3):
        shop.receive()
    shop.work()
    assert len(shop.mailer.sent) == 1
    assert len(shop.held()) == 2
    assert {run.process for run in shop.runs.listed(state=RunState.PARKED, limit=10)} == {"serve"}


def test_a_run_that_neither_mail_nor_webhook_started_has_no_limits(record: Record) -> None:
    shop = AnsweringShop(record, answers_per_day=1, per_hour=1)
    for _ in range(3):
        opening = Opening(definition=SERVE, request=Asked(email=ANN), run_id=new_run_id(), actor=CLERK)
        with record.store.write() as tx:
            shop.runs.open(tx, opening)
    shop.work()
    assert len(shop.mailer.sent) == 3
