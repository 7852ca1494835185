"""Tables on a terminal of 80 columns: by words, ids and dates whole, and nothing is left out silently."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from orchestrator.bindings.guard import ConnectionState
from orchestrator.bootstrap import use
from orchestrator.cli.tables import GAP, _widths, cell
from tests.support.app_with_fakes import ANNA, Office
from tests.support.console import Console

SUBJECT = "Where is my order? I have been waiting for three weeks now, and nobody answers"
LISTS = ("runs", "decisions", "inbox", "effects", "audit tail", "connections", "processes", "plugins", "check")


@pytest.fixture
def console(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.setenv("COLUMNS", "80")
    return Console(capsys)


@pytest.fixture
def office(shared: Office) -> Office:
    use(shared.app)
    return shared


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    opened = Office(tmp_path_factory.mktemp("office"))
    opened.serve(ANNA)
    opened.ask()
    opened.doubt()
    opened.receive(SUBJECT)
    opened.app.health.report("files", ConnectionState.DOWN, "the bucket cannot be reached: the connection was refused")
    yield opened
    opened.app.record.store.close()


def table(said: str) -> list[str]:
    """Return the lines of the table, without what is said below it."""
    return [
        line
        for line in said.splitlines()
        if not line.startswith(("Not shown here", "Not everything", "Every", "Advice: "))
    ]


@pytest.mark.parametrize("listing", LISTS)
def test_a_table_keeps_to_the_terminal_and_breaks_no_id_and_no_date(
    office: Office, console: Console, listing: str
) -> None:
    lines = table(console(*listing.split()).out)
    assert max(map(len, lines)) <= 80
    for row in console(*listing.split(), "--json").json if listing != "check" else ():
        first = next(iter(row.values()))
        assert any(str(first) in line for line in lines) or listing == "audit tail"
    assert not re.search(r"\b[rdfc]-[0-9a-f]{1,23}\s*$", "\n".join(lines), re.MULTILINE)


def test_a_text_is_wrapped_by_words(office: Office, console: Console) -> None:
    lines = table(console("inbox").out)
    shown = " ".join(line[cut(lines) :].strip() for line in lines[2:])
    assert shown == SUBJECT


def cut(lines: list[str]) -> int:
    return lines[0].index("subject")


def test_an_inbox_says_first_who_wrote_and_what_about_and_masks_the_sender(office: Office, console: Console) -> None:
    lines = table(console("inbox").out)
    assert lines[0].split() == ["delivery", "age", "sender", "subject"]
    assert "s…@example.com" in lines[2]
    (row,) = console("inbox", "--json").json
    assert (row["sender"], row["subject"], row["note"]) == (
        "s…@example.com",
        SUBJECT,
        "it is not a request that a process serves",
    )


def test_what_a_table_leaves_out_is_named(office: Office, console: Console) -> None:
    said = console("effects").out.splitlines()[-1]
    assert (
        said == "Not shown here: connection, doubt, attempt, run id, updated at; a wider terminal or --json shows it."
    )


@pytest.mark.parametrize("listing", ["runs", "inbox"])
def test_a_list_says_how_many_more_there_are(tmp_path: Path, console: Console, listing: str) -> None:
    office = Office(tmp_path)
    use(office.app)
    for _ in range(3):
        office.receive("Hello")
    assert console(listing, "-n", "2").out.splitlines()[-1] == "2 of 3; to see more: -n 3"
    said = console(listing, "-n", "2", "--json")
    assert (len(said.json), said.err) == (2, "2 of 3; to see more: -n 3\n")
    whole = console(listing, "-n", "3", "--json")
    assert (len(whole.json), whole.err) == (3, "")
    office.app.record.store.close()


def test_a_program_that_reads_a_table_gets_every_column_in_one_line(
    office: Office, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS")
    said = console("inbox").out
    assert SUBJECT in said
    assert "Not shown" not in said


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (timedelta(seconds=59), "59 s"),
        (timedelta(minutes=59, seconds=59), "59 min"),
        (timedelta(hours=23), "23 h"),
        (timedelta(days=3, hours=5), "3 d"),
        (timedelta(), "0 s"),
        (datetime(2026, 12, 1, 9, tzinfo=UTC), "2026-12-01 09:00:00"),
        (None, ""),
        (True, "yes"),
        (("a", "b"), "a, b"),
    ],
)
def test_values_are_shown_as_people_read_them(value: object, shown: str) -> None:
    assert cell(value) == shown


words = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), max_size=12)
texts = st.lists(words, max_size=8).map(" ".join)
values = texts | st.datetimes() | st.timedeltas(max_value=timedelta(days=900)) | st.none()


@given(rows=st.lists(st.fixed_dictionaries(dict.fromkeys("abcde", values)), min_size=1), room=st.integers(20, 200))
def test_columns_have_room_for_every_word_and_every_date(rows: list[dict[str, object]], room: int) -> None:
    widths = _widths(rows, "abcde", room)
    assert list(widths) == list("abcde"[: len(widths)])
    assert len(widths) == 1 or sum(widths.values()) + GAP * (len(widths) - 1) <= room
    for row in rows:
        for column, width in widths.items():
            whole = isinstance(row[column], datetime | timedelta)
            parts = [cell(row[column])] if whole else cell(row[column]).split()
            assert max(map(cell_len, parts), default=0) <= width
