from __future__ import annotations

from datetime import datetime

import pytest

from orchestrator.capabilities import IncomingMail
from orchestrator.record.record import Record
from orchestrator.testing.builtin import FakeCase, FakeCases, FakeInbox
from orchestrator.testing.contracts.builtin import NOON, InboxAndCasesContract
from tests.support.builtin import RealHost
from tests.support.clock import HandClock


class TestRealHost(InboxAndCasesContract):
    @pytest.fixture
    def host(self, record: Record, clock: HandClock) -> RealHost:
        clock.now = NOON
        return RealHost(record)


class FakeHost:
    """The fakes as the contract sees them."""

    work = RealHost.work

    def __init__(self) -> None:
        self.inbox = FakeInbox()
        self.cases = FakeCases(self.inbox)

    def deliver(self, sender: str, at: datetime) -> str:
        delivery = f"d-{len(self.inbox.mails) + 1}"
        self.inbox.mails[delivery] = IncomingMail(
            delivery=delivery, sender=sender, subject="lost", text="", message_id="", received_at=at
        )
        return delivery

    def effect(self, number: int) -> str:
        return f"f-{number}"

    def answer(self, case_id: str, at: datetime) -> None:
        case: FakeCase = next(case for case in self.cases.cases.values() if case.case_id == case_id)
        case.answered_at = at

    def stop(self, case_id: str) -> None:
        case: FakeCase = next(case for case in self.cases.cases.values() if case.case_id == case_id)
        case.with_person = True

    def filed(self, delivery: str) -> tuple[str, str]:
        settled = self.inbox.settled.get(delivery)
        return ("for-person", self.inbox.for_person[delivery]) if settled is None else ("settled", settled)

    def started(self) -> list[str]:
        return [f"r-{number}" for number in range(1, len(self.cases.started) + 1)]

    def due_at(self, run_id: str) -> datetime:
        due_at = self.cases.due[self.started().index(run_id)]
        assert due_at is not None
        return due_at

    def case_of(self, run_id: str) -> str:
        return self.cases.started[self.started().index(run_id)][0]

    own_case = "c-0"


class TestFakeHost(InboxAndCasesContract):
    @pytest.fixture
    def host(self) -> FakeHost:
        return FakeHost()


PROMISES = """
a_doubt_is_settled_by_doing_it_again
a_mail_lies_where_it_was_filed_last
a_mail_that_is_not_stored_is_not_found
a_mail_to_a_case_that_waits_for_a_person_says_so
a_stored_mail_is_read
a_time_without_a_time_zone_is_refused
another_customer_has_another_case
asking_again_with_the_same_effect_changes_nothing
only_a_mail_that_came_after_the_answer_is_one_to_an_answered_case
the_first_mail_opens_a_case_and_the_next_one_joins_it
the_same_effect_starts_one_run
two_effects_start_two_runs
work_may_start_later_and_in_the_case_of_the_run_that_starts_it
"""


def test_the_contract_loses_no_promise() -> None:
    promised = [f"test_{promise}" for promise in PROMISES.split()]
    assert sorted(name for name in vars(InboxAndCasesContract) if name.startswith("test_")) == promised
