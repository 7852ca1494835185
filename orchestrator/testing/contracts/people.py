"""What the people who decide must do, and whatever stands in for them in tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import pytest

from orchestrator.capabilities import Decision, Option, People, Question
from orchestrator.errors import AwaitingDecision, RecordError
from orchestrator.plugins import Connection, DoubtClass, Settlement, with_effect_id

YES = Option(key="yes", label="Do it")
ELSE = Option(key="else", label="Do something else", needs_text="what to do")
TELL = Option(key="tell", label="Tell somebody", needs_text="whom", text_is="address")
QUESTION = Question(title="Shall it be done?", known="Mary asks.", options=(YES, ELSE, TELL))


class PeopleConnection(People, Connection, Protocol):
    """The people under test."""

    @property
    def settlements(self) -> Mapping[str, Settlement]:
        """How doubts are settled."""
        ...


class Office(Protocol):
    """What the tests see of the people, and do to them."""

    @property
    def people(self) -> PeopleConnection:
        """The people."""

    def effect(self, question: Question) -> str:
        """Return the id of the effect in which a run asks."""

    def answer(self, effect_id: str, decision: Decision) -> None:
        """Let somebody answer; raises ``RecordError``, now or when the run asks, if it does not fit."""


class PeopleContract:
    """Give the fixture ``office``, in which nobody was asked yet."""

    @pytest.fixture
    def office(self) -> Office:
        """The people under test."""
        raise NotImplementedError("give the fixture office: the people, and how they are made to answer")

    def test_a_run_waits_until_somebody_answers(self, office: Office) -> None:
        effect_id = office.effect(QUESTION)
        for _ in range(2):
            with pytest.raises(AwaitingDecision, match=QUESTION.title):
                with_effect_id(office.people.decide, effect_id)(QUESTION)
        office.answer(effect_id, Decision(option="yes"))
        assert with_effect_id(office.people.decide, effect_id)(QUESTION) == Decision(option="yes")

    def test_what_a_person_writes_comes_with_the_decision(self, office: Office) -> None:
        effect_id, decision = (
            office.effect(QUESTION),
            Decision(option="else", text="Call her.\nGr\u00fc\u00dfe, \u65e5\u672c\u8a9e \U0001f4e6"),
        )
        with pytest.raises(AwaitingDecision):
            with_effect_id(office.people.decide, effect_id)(QUESTION)
        office.answer(effect_id, decision)
        assert with_effect_id(office.people.decide, effect_id)(QUESTION) == decision

    @pytest.mark.parametrize(
        ("option", "text"),
        [
            ("no", ""),
            ("else", ""),
            ("else", " \n"),
            ("else", "(what to do)"),
            ("yes", "But tell her that we are closed."),
            ("tell", "her"),
            ("tell", "ann@example.com, tom@example.com"),
            ("tell", "Ann <ann@example.com>"),
        ],
    )
    def test_a_process_never_gets_an_answer_that_does_not_fit(self, office: Office, option: str, text: str) -> None:
        effect_id = office.effect(QUESTION)
        with pytest.raises(AwaitingDecision):
            with_effect_id(office.people.decide, effect_id)(QUESTION)
        with pytest.raises(RecordError):  # noqa: PT012 - whichever of the two says so
            office.answer(effect_id, Decision(option=option, text=text))
            with_effect_id(office.people.decide, effect_id)(QUESTION)

    def test_a_doubt_is_settled_by_asking_again(self, office: Office) -> None:
        assert office.people.settlements["decide"].doubt is DoubtClass.NATURAL
