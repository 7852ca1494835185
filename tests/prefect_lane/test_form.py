"""The form on which a question is answered in Prefect, checked as Prefect checks it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect.utilities.schema_tools.validation import ValidationError, validate

from orchestrator.builtin.people import OpenQuestion
from orchestrator.capabilities import Decision, Question
from orchestrator.prefect_lane.form import FilledIn, Form
from tests.support.builtin import OTHERWISE, YES

NINE = datetime(2026, 3, 1, 9, tzinfo=UTC)
QUESTION = Question(title="Shall it be done?", known="Mary (mary@example.com) asks.", options=(YES, OTHERWISE))
TIMED = QUESTION.model_copy(update={"role": "support", "due_in": timedelta(hours=4), "otherwise": "yes"})
DESCRIPTION = """\
### Shall it be done?

For: **support**

Answer until **2026-03-01 13:00 UTC**; after that, this is done by itself: **Do it**

What is known may name persons, so it is not shown here. Read it first: `orchestrator decisions show f-1`. Then choose:

- **Do it**
- **Do something else** (write under *Text*: what to do)

Process `serve`, run `r-1`, case `c-1`"""


def form(question: Question = TIMED, *, overdue: bool = False) -> Form:
    return Form(
        OpenQuestion(
            question_id="f-1",
            run_id="r-1",
            process="serve",
            case_id="c-1",
            role=question.role,
            asked_at=NINE,
            due_at=NINE + question.due_in if question.due_in else None,
            overdue=overdue,
            waiting=timedelta(),
            question=question,
        )
    )


def test_the_form_says_what_is_asked_what_each_answer_does_and_where_the_rest_is() -> None:
    assert form().description() == DESCRIPTION


def test_what_is_known_is_on_no_form() -> None:
    for each in (form(), form(QUESTION), form(overdue=True)):
        assert "mary" not in repr((each.state(), each.schema(), each.description())).lower()


def test_the_state_says_until_when_or_since_when() -> None:
    states = [form(QUESTION).state(), form().state(), form(overdue=True).state()]
    assert [state["message"] for state in states] == [
        f"A person must decide{limit}: Shall it be done?. Press Resume to answer."
        for limit in ("", " until 2026-03-01 13:00 UTC", " OVERDUE since 2026-03-01 13:00 UTC")
    ]


@pytest.mark.parametrize(
    "filled_in",
    [
        {"decision": "Do it"},
        {"decision": "Do it", "text": ""},
        {"decision": "Do it", "text": None},
        {"decision": "Do something else", "text": "call her"},
    ],
)
def test_what_fits_is_taken(filled_in: dict[str, Any]) -> None:
    validate(filled_in, form().schema(), raise_on_error=True)
    decision = FilledIn("f-1", filled_in, "").decision(TIMED)
    assert decision == Decision(
        option="yes" if filled_in["decision"] == "Do it" else "otherwise", text=filled_in.get("text") or ""
    )
    assert TIMED.unfit(decision) == ""


@pytest.mark.parametrize(
    ("filled_in", "said"),
    [
        ({}, "'decision' is a required property"),
        ({"decision": "Do nothing"}, r"field 'decision'.*is not one of \['Do it', 'Do something else'\]"),
        ({"decision": "Do something else"}, "'text' is a required property"),
        ({"decision": "Do something else", "text": ""}, "field 'text'"),
        ({"decision": "Do something else", "text": None}, "field 'text'"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(filled_in: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        validate(filled_in, form().schema(), raise_on_error=True)


def test_a_blank_text_is_refused_by_the_worker_in_a_sentence() -> None:
    """Prefect would say that it does not match ``\\S``."""
    filled_in = {"decision": "Do something else", "text": " \n"}
    validate(filled_in, form().schema(), raise_on_error=True)
    assert TIMED.unfit(FilledIn("f-1", filled_in, "").decision(TIMED)) == "option otherwise needs a text: what to do"


def test_a_question_that_asks_for_no_text_has_no_field_for_one() -> None:
    plain = form(QUESTION.model_copy(update={"options": (YES,)})).schema()
    assert list(plain["properties"]) == ["decision"]


def test_an_answer_that_is_none_of_the_options_is_none() -> None:
    assert TIMED.unfit(FilledIn("f-1", {"decision": "Do nothing"}, "").decision(TIMED)).startswith("'' is no option")
