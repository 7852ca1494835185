"""What is started in Prefect has a limit of its own, and nothing that is pressed there goes beyond it."""

from __future__ import annotations

import pytest

from orchestrator.outbound_limits.answers import held_runs
from orchestrator.prefect_lane.form import FILLED_IN
from orchestrator.record.record import Record
from orchestrator.record.trail import BY_PREFECTS_SCHEDULE, IN_PREFECT, SYSTEM, Actor
from tests.support.answering_shop import ANN, ASK_FIRST_YES, ASK_THEN_SERVE, SERVE, START_ANOTHER, AnsweringShop, Asked
from tests.support.builtin import CLERK
from tests.support.clock import HandClock


@pytest.mark.parametrize("actor", [IN_PREFECT, BY_PREFECTS_SCHEDULE])
def test_what_prefect_starts_has_a_limit_for_each_address_and_a_person_must_let_go_what_is_beyond(
    record: Record, actor: Actor
) -> None:
    shop = AnsweringShop(record, answers_per_day=3)
    for number in range(6):
        shop.press_run(SERVE, Asked(email=f"ann+{number}@example.com"), actor)
    shop.press_run(SERVE, Asked(email="someone.else@example.com"), actor)
    shop.work()
    assert len(shop.mailer.sent) == 4
    held = shop.parked()
    assert (len(held), sorted(held_runs(record))) == (3, sorted(held))
    with record.store.read() as tx:
        reason = shop.runs.get(tx, held[0]).reason
    assert reason == (
        "its recipient had 3 mails in a day by runs that were started in Prefect ([prefect] answers_per_day); "
        f"let it go out with: orchestrator runs resume {held[0]}"
    )
    for nobodys_word in (IN_PREFECT, SYSTEM):
        shop.resume(held[0], nobodys_word)
    assert len(shop.mailer.sent) == 4
    shop.resume(held[0], CLERK)
    assert (len(shop.mailer.sent), shop.parked()) == (5, held[1:])


def test_an_answer_given_in_prefect_lets_no_mail_go_out_beyond_the_limit(record: Record) -> None:
    shop = AnsweringShop(record, answers_per_day=1)
    asking = [shop.press_run(ASK_THEN_SERVE, Asked(email=ANN)) for _ in range(3)]
    shop.work()
    actors = [FILLED_IN, FILLED_IN, CLERK]
    for run_id, actor in zip(asking, actors, strict=True):
        waiting = shop.people.waiting_of(run_id)
        assert waiting is not None
        shop.people.answer(waiting.question_id, ASK_FIRST_YES, actor)
    shop.work()
    assert len(shop.mailer.sent) == 2
    assert len(shop.parked()) == 1
    assert shop.parked()[0] in asking[:2]


def test_what_a_run_of_prefect_starts_is_limited_too_and_what_a_person_starts_here_is_not(record: Record) -> None:
    shop = AnsweringShop(record, answers_per_day=2)
    for _ in range(4):
        shop.press_run(START_ANOTHER, Asked(email=ANN))
        shop.press_run(SERVE, Asked(email=ANN), CLERK)
        shop.fill_in()
    shop.work()
    assert len(shop.mailer.sent) == 2 + 4 + 2
    assert len(shop.parked()) == 2 + 2


def test_the_day_of_prefects_limit_ends(record: Record, clock: HandClock) -> None:
    shop = AnsweringShop(record, answers_per_day=1)
    for _ in range(3):
        shop.press_run(SERVE, Asked(email=ANN))
        shop.work()
        clock.advance(hours=25)
    assert (len(shop.mailer.sent), shop.parked()) == (3, [])
