from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.record.canonical import LARGEST_INTEGER, canonical, read_canonical
from tests.support.deep import cases

ASCII_KEYS = st.text(st.characters(max_codepoint=127), max_size=12)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-LARGEST_INTEGER, LARGEST_INTEGER)
    | st.text(max_size=20)
    | st.sampled_from(["\u2028", "\x7f", "\x00\x1f", '"\\/', "\U0001f600", "\ufb33", "é", "e\u0301"])
)
DOCUMENTS: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ASCII_KEYS, inner, max_size=4),
    max_leaves=8,
)
UNFIT = [
    1.0,
    float("nan"),
    float("inf"),
    LARGEST_INTEGER + 1,
    -LARGEST_INTEGER - 1,
    {"é": 1},
    {1: "one"},
    {None: 1},
    "\ud800",
    "whole \udfff string",
    b"bytes",
    {1, 2},
    Decimal(1),
    object(),
]

NOT_CANONICAL = [
    *[b"1.5", b"1e3", b"NaN", b"-Infinity", b"-0", b"9007199254740992", b"[1, 2]", b""],
    *[b'{"a":1,"a":1}', b'{"b":1,"a":1}', b' {"a":1}', b'"\\u0041"', b'"\\ud800"', b'{"\\u00e9":1}'],
    *[b'{"\xc3\xa9":1}', b"\xff", b'"\xed\xa0\x80"'],
]


@settings(max_examples=cases(4000, 1_000_000) // 10)
@given(st.lists(DOCUMENTS, min_size=10, max_size=10))
def test_the_canonical_form_is_that_of_rfc_8785(documents: list[Any]) -> None:
    assert [canonical(document) for document in documents] == [rfc8785.dumps(document) for document in documents]


@settings(max_examples=cases(200, 10_000))
@given(DOCUMENTS)
def test_what_is_read_from_the_canonical_form_has_the_same_form(document: Any) -> None:
    written = canonical(document)
    assert json.loads(written) == document == read_canonical(written)
    assert canonical(json.loads(written)) == written


@settings(max_examples=cases(200, 10_000))
@given(DOCUMENTS, st.data())
def test_nothing_is_read_but_what_would_be_written(document: Any, data: st.DataObject) -> None:
    """Bytes that were changed are read if, and only if, they are canonical all the same."""
    changed = bytearray(canonical(document))
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place : place + data.draw(st.integers(0, 1))] = data.draw(
        st.sampled_from([b"", b" ", b"1", b'"', b"\\", b"e"])
    )
    try:
        expected = canonical(json.loads(bytes(changed))) == changed
    except ValueError:
        expected = False
    try:
        read_canonical(bytes(changed))
        read = True
    except ValueError:
        read = False
    assert read == expected


@pytest.mark.parametrize("written", NOT_CANONICAL)
def test_bytes_that_are_no_canonical_form_are_refused(written: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_canonical(written)


def test_the_order_of_keys_changes_nothing() -> None:
    assert canonical({"b": 1, "a": {"d": 2, "c": 3}}) == canonical({"a": {"c": 3, "d": 2}, "b": 1})


def test_a_tuple_is_written_like_a_list() -> None:
    assert canonical({"a": (1, (2,))}) == b'{"a":[1,[2]]}'


def test_the_largest_integers_pass() -> None:
    assert canonical([LARGEST_INTEGER, -LARGEST_INTEGER]) == b"[9007199254740991,-9007199254740991]"


@pytest.mark.parametrize("unfit", UNFIT, ids=[f"{place}-{type(each).__name__}" for place, each in enumerate(UNFIT)])
@pytest.mark.parametrize("place", ["alone", "in a list", "deep"])
def test_what_has_no_single_byte_form_is_refused(unfit: object, place: str) -> None:
    document = {"alone": unfit, "in a list": [unfit], "deep": {"a": [{"b": (unfit,)}]}}[place]
    with pytest.raises(ValueError, match=r".+"):
        canonical(document)
