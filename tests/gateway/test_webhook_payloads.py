from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError

from orchestrator.gateway.hooks import Hooks, key_of
from orchestrator.gateway.mapping import MISSING, find, request_from
from orchestrator.gateway.refusals import Reason, Refusals
from orchestrator.gateway.verification import Call
from orchestrator.record.record import Record
from orchestrator.record.vault import Vault
from tests.support.deep import cases
from tests.support.kernel_bench import fails, watched
from tests.support.webhooks import NOON, SHOP, SIGNED, SOURCES, Order, arrival, hook, proof


def known_by(delivery_id: str, payload: Any = None, **headers: str) -> str:
    raw = {name.replace("_", "-").lower().encode(): value.encode("latin-1") for name, value in headers.items()}
    call = Call(headers=raw, body=b"{}")
    return key_of(hook(delivery_id=delivery_id), call, payload, NOON, Vault(bytes(32)))


def test_a_delivery_is_known_by_the_senders_id() -> None:
    assert known_by("Webhook-Id", webhook_id="m-1") == "m-1"
    assert known_by("/data/0/id", {"data": [{"id": "evt 1"}]}) == "evt 1"
    assert known_by("/id", {"id": 17}) == "17"


@pytest.mark.parametrize("found", [None, True, "", 1.5, [], {}, 2**70, MISSING])
def test_without_an_id_a_delivery_is_known_by_its_body_and_the_minute(found: object) -> None:
    assert known_by("/id", {"id": found}).startswith("body-")
    assert known_by("X-Id").startswith("body-")
    assert known_by("").startswith("body-")


def test_the_same_body_a_minute_later_is_another_delivery() -> None:
    vault, call = Vault(bytes(32)), Call(headers={}, body=b"{}")
    keys = [key_of(SHOP, call, {}, NOON.replace(minute=m, second=s), vault) for m, s in ((0, 0), (0, 59), (1, 0))]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("written", ["x" * 201, "a\nb", "\x00", "J\u00fcrgen", "\ud800"])
def test_an_id_that_does_not_fit_into_the_record_is_hashed(written: str) -> None:
    assert known_by("/id", {"id": written}).startswith("long-")
    assert len(known_by("/id", {"id": written})) < 100


# RFC 6901 5
DOCUMENT = json.loads(
    '{"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\\\j": 5, "k\\"l": 6, " ": 7, "m~n": 8}'
)


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", DOCUMENT),
        ("/foo", ["bar", "baz"]),
        ("/foo/0", "bar"),
        ("/", 0),
        ("/a~1b", 1),
        ("/c%d", 2),
        ("/e^f", 3),
        ("/g|h", 4),
        ("/i\\j", 5),
        ('/k"l', 6),
        ("/ ", 7),
        ("/m~0n", 8),
        ("/foo/2", MISSING),
        ("/foo/-", MISSING),
        ("/foo/00", MISSING),
        ("/foo/-1", MISSING),
        ("/foo/\u0661", MISSING),
        ("/foo/0/x", MISSING),
        ("/m~01n", MISSING),
        ("/nothing", MISSING),
    ],
)
def test_a_pointer_finds_what_rfc_6901_says(pointer: str, value: object) -> None:
    assert find(DOCUMENT, pointer) == value


def test_a_field_without_a_value_keeps_its_default() -> None:
    assert request_from({"customer": {"email": "a"}}, SOURCES, Order) == Order(email="a", by_mail=True)


@settings(max_examples=cases(300, 20_000))
@given(body=st.binary(max_size=40) | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
def test_any_body_is_an_input_or_a_dead_letter(body: bytes | str) -> None:
    found = arrival(body.encode() if isinstance(body, str) else body)
    assert (found.request is None) == bool(found.problem)


def test_the_note_of_a_dead_letter_repeats_no_value() -> None:
    found = arrival(b'{"customer": {"email": {"canary": "canary"}}, "items": [{"name": 5}]}')
    assert found.problem == "email should be a valid string; product should be a valid string"


# --- addresses, and calls that were refused ----------------------------------------------------------------------


def test_a_webhook_is_found_by_its_whole_address() -> None:
    secret = hook(name="keap", path_secret=b"s" * 32)
    hooks = Hooks([SHOP, secret])
    assert hooks.find("shop") is hooks.find("shop/") is SHOP
    assert hooks.find(f"keap/{'s' * 32}") is secret
    wrong = ["", "/", "x", "shop/x", "shop//", "keap", "keap/", f"keap/{'s' * 31}", f"keap/{'s' * 32}/", "keap/\ud800"]
    assert [hooks.find(path) for path in wrong] == [None] * len(wrong)


@pytest.mark.parametrize("scheme", SIGNED)
def test_no_secret_shows_in_what_a_webhook_prints_of_itself(scheme: Any) -> None:
    found = repr(hook(path_secret=b"p4th" * 8, proof=proof(scheme)))
    assert "p4th" not in found
    assert repr(proof(scheme).keys[0]) not in found


def test_refused_calls_are_one_event_however_many_they_are(record: Record) -> None:
    refusals = Refusals(record, "gateway:1")
    refusals.write_down()
    for _ in range(1000):
        refusals.add("shop", Reason.FORGED)
    refusals.add("(unknown)", Reason.TOO_LARGE)
    refusals.write_down()
    refusals.write_down()
    with record.store.read() as tx:
        (event,) = record.trail.chain(tx, "gateway:1")
    assert event.kind == "calls.refused"
    assert event.data["refused"] == [
        {"webhook": "(unknown)", "reason": "size", "calls": 1},
        {"webhook": "shop", "reason": "signature", "calls": 1000},
    ]


def test_refused_calls_are_kept_while_the_store_fails(record: Record) -> None:
    refusals = Refusals(watched(record, fails(only_commit=1)), "gateway:1")
    refusals.add("shop", Reason.FORGED)
    with pytest.raises(DBAPIError):
        refusals.write_down()
    refusals.add("shop", Reason.FORGED)
    refusals.write_down()
    with record.store.read() as tx:
        (event,) = record.trail.chain(tx, "gateway:1")
    assert event.data["refused"] == [{"webhook": "shop", "reason": "signature", "calls": 2}]
