from __future__ import annotations

import pytest

from orchestrator.capabilities import Decision, People, Question
from orchestrator.errors import RunParked
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.record.record import Record
from orchestrator.testing.contracts.people import PeopleContract
from orchestrator.testing.people import FakePeople
from tests.support.builtin import CLERK, Host, Served


class RealPeople(Host):
    """The real host as the contract sees it."""

    def effect(self, question: Question) -> str:
        def ask(request: Served, *, people: People) -> None:
            people.decide(question)

        definition = ProcessDefinition("ask", ask)
        run_id = self.open(definition, Served(email="ann@example.com"))
        with pytest.raises(RunParked):
            self.execute(definition, run_id)
        (waiting,) = self.people.open_questions()
        return waiting.question_id

    def answer(self, effect_id: str, decision: Decision) -> None:
        self.people.answer(effect_id, decision, CLERK)


class TestRealPeople(PeopleContract):
    @pytest.fixture
    def office(self, record: Record) -> RealPeople:
        return RealPeople(record)


class FakeOffice:
    """The fake as the contract sees it: what is answered is what was decided beforehand."""

    def __init__(self) -> None:
        self.people = FakePeople()

    def effect(self, question: Question) -> str:
        return "f-1"

    def answer(self, effect_id: str, decision: Decision) -> None:
        self.people.answer(decision)


class TestFakePeople(PeopleContract):
    @pytest.fixture
    def office(self) -> FakeOffice:
        return FakeOffice()


PROMISES = """
a_doubt_is_settled_by_asking_again
a_process_never_gets_an_answer_that_does_not_fit
a_run_waits_until_somebody_answers
what_a_person_writes_comes_with_the_decision
"""


def test_the_contract_loses_no_promise() -> None:
    promised = [f"test_{promise}" for promise in PROMISES.split()]
    assert sorted(name for name in vars(PeopleContract) if name.startswith("test_")) == promised
