"""Forged senders cost little, and keep no real customer from being served."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.builtin.inbox import Delivery, DeliveryState
from orchestrator.capabilities import Decision
from orchestrator.errors import RunError
from orchestrator.kernel.runs import RunState
from orchestrator.record.trail import Actor
from orchestrator.testing.mail import FakeMailbox
from tests.support.app_with_fakes import ANNA, CONFIG, Office
from tests.support.clock import HandClock
from tests.support.deep import cases

OURS = "mx.shop.example"
CLERK = Actor(name="operator:ann", auth="os user")
LOST, OTHER = "I lost my download", "Do you have linen?"


class Shop(Office):
    """An office whose mail server says who wrote a mail."""

    def __init__(self, folder: Path, clock: HandClock, authserv_id: str) -> None:
        super().__init__(folder, CONFIG + authserv_id, mailbox=FakeMailbox(since=clock()), clock=clock)
        self._clock = clock

    def write(self, sender: str, subject: str = LOST, *, result: str = "fail") -> None:
        """Let a mail come in, and everything be done that can be."""
        self._clock.advance(seconds=1)
        said = f"Authentication-Results: {OURS}; dmarc={result} header.from={sender.partition('@')[2]}"
        self.mailbox.deliver(f"{said}\r\nFrom: {sender}\r\nSubject: {subject}\r\n\r\n{subject}\r\n".encode())
        self.app.intake.take_in(self.app.sources()[0])
        self.work()

    def work(self) -> None:
        """Do everything that can be done."""
        while due := self.app.runs.due(limit=100):
            for run_id in due:
                with self.app.record.store.read() as tx:
                    process = self.app.runs.get(tx, run_id).process
                with suppress(RunError):
                    self.app.kernel.execute(self.app.definition(process), run_id)

    def sent_to(self, address: str) -> list[str]:
        """Return the subjects of the mails to one address."""
        return [mail.subject for mail in self.mailer.sent if mail.to == address]

    def questions(self) -> list[str]:
        return [waiting.question.title for waiting in self.app.people.open_questions()]

    def for_person(self) -> list[Delivery]:
        return self.app.inbox.listed(state=DeliveryState.FOR_PERSON, limit=1000)


@pytest.fixture(params=[f'authserv_id = "{OURS}"\n', ""], ids=["proven by our server", "nobody proven"])
def shop(request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock) -> Iterator[Shop]:
    shop = Shop(tmp_path, clock, request.param)
    yield shop
    shop.app.record.store.close()


@pytest.fixture
def proving(tmp_path: Path, clock: HandClock) -> Iterator[Shop]:
    shop = Shop(tmp_path, clock, f'authserv_id = "{OURS}"\n')
    yield shop
    shop.app.record.store.close()


def test_strangers_share_a_few_mails_and_one_question_and_hold_no_customer(shop: Shop) -> None:
    strangers = cases(12, 60)
    for number in range(strangers):
        shop.write(f"stranger{number}@example.com")
    neutral = [mail for mail in shop.mailer.sent if mail.subject == "We are looking into it"]
    assert len(neutral) == len(shop.mailer.sent) == 5
    assert len({mail.model_copy(update={"to": ""}) for mail in neutral}) == 1
    assert len(shop.questions()) == 5 + 1
    assert shop.questions().count("More strangers ask for downloads than are answered one by one") == 1
    assert len(shop.for_person()) == strangers - 5, "none may be lost"
    shop.write(ANNA)
    assert shop.sent_to(ANNA) == ["Your download"]


def test_once_they_are_looked_through_the_next_stranger_opens_the_next_question(proving: Shop) -> None:
    for number in range(6):
        proving.write(f"stranger{number}@example.com")
    answer(proving, "More strangers", "done")
    assert len(proving.questions()) == 5
    proving.write("another@example.com")
    assert len(proving.questions()) == 6


def test_a_proven_stranger_has_a_question_of_their_own_whatever_others_used_up(proving: Shop) -> None:
    for number in range(8):
        proving.write(f"stranger{number}@example.com")
    proving.write("tom@example.org", result="pass")
    assert proving.sent_to("tom@example.org") == ["We are looking into it"]
    assert len(proving.questions()) == 5 + 1 + 1


def test_forged_mails_use_up_nothing_of_the_customer_in_whose_name_they_are(proving: Shop, clock: HandClock) -> None:
    for _ in range(8):
        proving.write(ANNA)
        clock.advance(minutes=6)
    forged = len(proving.sent_to(ANNA))
    proving.write(ANNA, result="pass")
    assert len(proving.sent_to(ANNA)) == forged + 1
    assert proving.sent_to(ANNA)[-1] == "Your download"


def test_a_forged_mail_that_was_closed_without_an_answer_leaves_the_customers_own_to_be_served(shop: Shop) -> None:
    purchases, shop.orders.purchases = shop.orders.purchases, []
    shop.write(ANNA)
    answer(shop, "A customer asks", "close")
    shop.orders.purchases = purchases
    shop.write(ANNA, result="pass")
    assert shop.sent_to(ANNA)[-1] == "Your download"
    assert shop.for_person() == []


def test_mail_that_is_no_request_costs_a_few_acknowledgements(shop: Shop) -> None:
    for number in range(12):
        shop.write(f"stranger{number}@example.com", OTHER)
    assert [mail.subject for mail in shop.mailer.sent] == ["We have your mail"] * 5
    assert (shop.questions(), len(shop.for_person())) == ([], 12)
    assert shop.app.runs.listed(state=RunState.PARKED, limit=9) == []
    shop.write("stranger99@example.com")
    assert shop.mailer.sent[-1].subject == "We are looking into it"


def answer(shop: Shop, title: str, option: str) -> None:
    """Answer the question with this title, and let its run go on."""
    (waiting,) = [each for each in shop.app.people.open_questions() if each.question.title.startswith(title)]
    shop.app.people.answer(waiting.question_id, Decision(option=option), CLERK)
    shop.work()
