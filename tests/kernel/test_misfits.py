"""What does not fit into a process's input is said in sentences that name fields, and never a pattern or a value."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from prefect.utilities.schema_tools.validation import ValidationError, build_error_obj, validate
from pydantic import AfterValidator, Field, StringConstraints

from flows.lost_download import LostDownload, lost_download
from orchestrator.capabilities import EmailAddress, Value
from orchestrator.errors import ConfigurationError
from orchestrator.gateway.mapping import Unfit, request_from
from orchestrator.process import process

SECRET = "s3cret@nowhere"


def refused(value: str) -> str:
    """Refuse in the author's words, which repeat the value."""
    raise ValueError(f"{value} is refused")


class Line(Value):
    """A line of an order."""

    pattern: Annotated[str, StringConstraints(pattern=r"^[A-Z]+-\d+$")] = "A-1"


class Order(Value):
    """An order."""

    email: EmailAddress = Field(examples=["mary@example.com"])
    lines: tuple[Line, ...] = ()
    notes: dict[str, int] = Field(default_factory=dict)
    word: Annotated[str, AfterValidator(refused)] = ""


@process("order")
def order(request: Order) -> None:
    """Serve an order."""


FORM = "must be a form with the fields email, lines, notes, word"
REFUSALS: dict[str, tuple[Any, str]] = {
    "nothing": (None, f"the input {FORM}"),
    "a list": ([SECRET], f"the input {FORM}"),
    "missing": ({}, "email is missing"),
    "pattern": ({"email": SECRET + " x"}, "email is not written as it must be; an example: mary@example.com"),
    "below": ({"email": SECRET, "lines": [{"pattern": SECRET}]}, "lines.0.pattern is not written as it must be"),
    "a key": (
        {"email": SECRET, "notes": {SECRET: "x"}},
        "notes should be a valid integer, unable to parse string as an",
    ),
    "a name": ({"email": SECRET, SECRET: 1}, "the input has a field that it must not have"),
    "too long": ({"email": SECRET * 30}, "email should have at most 254 characters"),
}


@pytest.mark.parametrize(("given", "said"), REFUSALS.values(), ids=REFUSALS)
def test_an_input_that_does_not_fit_is_explained_without_values(given: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        order.definition.read(given)
    assert str(refusal.value).startswith(f"the input of process order does not fit: {said}")
    assert SECRET not in str(refusal.value)


def test_the_words_of_an_author_are_repeated_to_people_and_never_written_down_with_a_webhook() -> None:
    given = {"email": SECRET, "word": "sold out"}
    with pytest.raises(ConfigurationError, match="word is not accepted: sold out is refused"):
        order.definition.read(given)
    with pytest.raises(Unfit) as refusal:
        request_from(given, {"email": "/email", "word": "/word"}, Order)
    assert str(refusal.value) == "word is not accepted"


def test_blanks_around_an_address_are_stripped() -> None:
    assert lost_download.definition.read({"email": " Mary@Example.com\n"}) == LostDownload(email="mary@example.com")


FORMS = [order.parameters.model_dump_for_openapi(), lost_download.parameters.model_dump_for_openapi()]


@pytest.mark.parametrize("given", ["mary", "", " ", "mary@", "a b@c", "<mary@example.com>", "mary@example.com\n"])
@pytest.mark.parametrize("form", FORMS, ids=["order", "lost-download"])
def test_the_form_in_prefect_answers_with_sentences(form: dict[str, Any], given: str) -> None:
    """Prefect says on the spot what is wrong with a field, in the words of a library: never with a pattern."""
    said = repr(build_error_obj(validate({"request": {"email": given}}, form)))
    assert "match" not in said
    assert "^" not in said


def test_the_form_in_prefect_takes_an_address_with_blanks_around_it() -> None:
    for form in FORMS:
        validate({"request": {"email": " mary@example.com "}}, form, raise_on_error=True)
        with pytest.raises(ValidationError, match="'email' is a required property"):
            validate({"request": {}}, form, raise_on_error=True)


def test_a_field_that_is_called_pattern_stays_in_the_form() -> None:
    line = FORMS[0]["definitions"]["Line"]["properties"]
    assert "pattern" in line
    assert "pattern" not in line["pattern"]
