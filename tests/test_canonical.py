from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
import rfc8785
from deep import cases
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.record.canonical import LARGEST_INTEGER, canonical

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


@settings(max_examples=cases(4000, 1_000_000) // 10)
@given(st.lists(DOCUMENTS, min_size=10, max_size=10))
def test_the_canonical_form_is_that_of_rfc_8785(documents: list[Any]) -> None:
    assert [canonical(document) for document in documents] == [rfc8785.dumps(document) for document in documents]


@settings(max_examples=cases(200, 10_000))
@given(DOCUMENTS)
def test_what_is_read_from_the_canonical_form_has_the_same_form(document: Any) -> None:
    written = canonical(document)
    assert json.loads(written) == document
    assert canonical(json.loads(written)) == written


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
