"""Personal data need not stand on the command line: it can come from standard input."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from flows.lost_download import ANSWER, BOUGHT_AS
from tests.support.app_with_fakes import ANNA, STRANGER, Office
from tests.support.console import Console

Typed = Callable[[bytes], None]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Return a function that gives the command line its standard input."""
    return lambda written: monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(written), "utf-8"))


@pytest.mark.parametrize("option", [("--email", "-"), ("--email=-",)])
def test_a_run_takes_its_fields_from_standard_input_a_line_each(
    office: Office, console: Console, typed: Typed, option: tuple[str, ...]
) -> None:
    typed(f"  {ANNA} \ndress\n".encode())
    said = console("run", "lost-download", *option, "--product", "-", "--json")
    assert (said.code, said.json["state"]) == (0, "done")
    shown = console("audit", "show", said.json["run"], "--private", "--json").json
    request = shown[0]["data"]["request"]
    assert (request["email"], request["product"]) == (ANNA, "dress")


@pytest.mark.parametrize(
    ("written", "said"),
    [(b"", "--email -: standard input has no line left for it\n"), (b"\xff\n", "--email -: standard input is no text")],
)
def test_what_standard_input_does_not_hold_is_one_line_and_no_run(
    office: Office, console: Console, typed: Typed, written: bytes, said: str
) -> None:
    earlier = office.serve(ANNA)
    typed(written)
    refused = console("run", "lost-download", "--email", "-")
    assert (refused.code, refused.err[: len(said)], len(refused.err.splitlines())) == (1, said, 1)
    assert [row["run_id"] for row in console("runs", "--json").json] == [earlier]


def test_runs_of_a_customer_are_found_by_an_address_from_standard_input(
    office: Office, console: Console, typed: Typed
) -> None:
    run_id = office.serve(ANNA)
    typed(f"{ANNA}\n".encode())
    assert [row["run_id"] for row in console("runs", "--customer", "-", "--json").json] == [run_id]


def test_an_answer_takes_all_of_standard_input(office: Office, console: Console, typed: Typed) -> None:
    run_id, question = office.ask()
    typed(b"Dear Ann,\n\nhere it is.\n\nYours\n")
    assert console("decisions", "answer", question, ANSWER.key, "--text", "-").code == 0
    office.execute(run_id)
    assert office.mailer.sent[-1].to == STRANGER
    assert "Dear Ann,\n\nhere it is.\n\nYours\n" in office.mailer.sent[-1].text


def test_an_answer_without_its_text_is_refused_in_one_line(office: Office, console: Console, typed: Typed) -> None:
    _, question = office.ask()
    typed(b"\n")
    said = console("decisions", "answer", question, BOUGHT_AS.key, "--text", "-")
    assert (said.code, said.err) == (1, "option bought-as needs a text: the address on the order\n")
