from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.capabilities import Contacts, OrderRecords
from orchestrator.errors import AccessDenied, NotFound, Rejected
from orchestrator.plugins import Connector, DoubtClass
from orchestrator.sandbox.keap import ASSETS, KeapServer, Sold
from orchestrator.sandbox.shop import OTHER_CASE, THREE_PURCHASES
from orchestrator.testing.http_server import Answer, Fault
from orchestrator_connectors.keap import KeapAccount, KeapSettings, register_connectors
from tests.support.keap_account import ANNA, Cards, account, connect, has_address, raised_by, settings_of
from tests.support.paths import ROOT

DRESS = Sold(id="101", name="Linen Summer Dress", sku="LINEN-SUMMER-DRESS")
DAY = "2026-10-01T10:00:00Z"


@pytest.fixture
def keap() -> Iterator[KeapServer]:
    with account() as server:
        yield server


@pytest.fixture
def known(keap: KeapServer) -> str:
    return keap.crm.add_contact("new@example.com", given_name="Ada", family_name="New")


def test_an_address_that_the_crm_wrote_in_capitals_is_found(keap: KeapServer) -> None:
    (purchase,) = connect(keap).purchases_of(OTHER_CASE)
    assert purchase.email == "Mia.Winter@Example.com"


def test_an_order_belongs_to_the_first_address_of_the_card_alone(keap: KeapServer) -> None:
    assert connect(keap).purchases_of("mia@winter-studio.example") == ()


def test_lists_are_read_to_their_end(keap: KeapServer, known: str) -> None:
    for day in range(1, 8):
        keap.crm.add_order(known, DRESS, at=f"2026-10-{day:02}T10:00:00Z")
    keap.crm.largest_page = 2
    days = [purchase.bought_on.day for purchase in connect(keap).purchases_of("new@example.com")]
    assert days == [7, 6, 5, 4, 3, 2, 1]


def test_orders_of_every_card_with_the_address_are_found(keap: KeapServer) -> None:
    keap.crm.largest_page = 1
    for day in (3, 1, 2):
        card = keap.crm.add_contact("twice@example.com", given_name="Zoë", family_name="Ünal")
        keap.crm.add_order(card, DRESS, at=f"2026-10-{day:02}T10:00:00Z")
    found = connect(keap).purchases_of("twice@example.com")
    assert [purchase.bought_on.day for purchase in found] == [3, 2, 1]
    assert {purchase.name for purchase in found} == {"Zoë Ünal"}


def test_a_list_that_turns_in_a_circle_is_left(keap: KeapServer) -> None:
    for _ in range(2):
        keap.fail_next(Fault(answer=Answer(200, {"contacts": [], "next_page_token": "again"})))
    assert "does not end" in str(raised_by(lambda: connect(keap).purchases_of(ANNA)))
    assert len(keap.calls) == 2


def test_items_that_a_list_leaves_out_are_read_from_the_order(keap: KeapServer) -> None:
    whole = connect(keap).purchases_of(THREE_PURCHASES)
    keap.crm.lists_items = False
    assert connect(keap).purchases_of(THREE_PURCHASES) == whole
    keap.refuse(404, on="/orders/1007")
    assert connect(keap).purchases_of(THREE_PURCHASES) == whole[:2], "it was deleted just now"


@pytest.mark.parametrize("status", ["DRAFT", "SENT", "VIEWED"])
def test_what_was_not_paid_is_no_purchase(keap: KeapServer, known: str, status: str) -> None:
    order = keap.crm.add_order(known, DRESS, at=DAY, status=status)
    assert connect(keap).purchases_of("new@example.com") == ()
    keap.crm.orders[order]["total_paid"] = keap.crm.orders[order]["total"]
    assert len(connect(keap).purchases_of("new@example.com")) == 1


@pytest.mark.parametrize(("cents", "status"), [(1, "PARTIAL"), (1000, "REFUNDED"), (0, "REFUNDED"), (1, "NONE")])
def test_money_that_went_back_marks_the_order_refunded(keap: KeapServer, known: str, cents: int, status: str) -> None:
    order = keap.crm.add_order(known, DRESS, at=DAY, refunded=cents)
    keap.crm.orders[order]["refund_status"] = status
    (purchase,) = connect(keap).purchases_of("new@example.com")
    assert purchase.refunded


def test_the_file_is_taken_from_the_list_of_ours_by_sku_or_by_id(keap: KeapServer, known: str) -> None:
    products = [
        Sold(id="7", name="../../etc/passwd", sku="LINEN-SUMMER-DRESS"),
        Sold(id="8", name="By its id", sku=""),
        Sold(id="9", name="Its SKU is another's id", sku="8"),
        Sold(id="10", name="patterns/raglan-sweater.zip", sku="FABRIC"),
    ]
    keap.crm.add_order(known, *products, at=DAY)
    found = connect(keap, assets=ASSETS | {"8": "books/by-id.pdf"}).purchases_of("new@example.com")
    assert [(purchase.product, purchase.asset.key) for purchase in found] == [
        ("../../etc/passwd", "patterns/linen-summer-dress.zip"),
        ("By its id", "books/by-id.pdf"),
    ]


@pytest.mark.parametrize(
    "email", ["*", "anna.berg@*", "a@b.example;given_name==Anna", "a@b.example,c@d.example", "@", "a b@c"]
)
def test_what_could_mean_other_customers_is_not_asked(keap: KeapServer, email: str) -> None:
    for call in (lambda: connect(keap).purchases_of(email), lambda: connect(keap).tag(email, "x")):
        assert type(raised_by(call)) is Rejected
    assert keap.calls == []


@pytest.mark.parametrize(
    "email", ["o'neil+shop@example.com", "a=b@example.com", "a&b%41@example.com", "zoë@exämple.com"]
)
def test_an_address_is_asked_as_it_is(keap: KeapServer, email: str) -> None:
    keap.crm.add_order(keap.crm.add_contact(email), DRESS, at=DAY)
    assert [purchase.email for purchase in connect(keap).purchases_of(email)] == [email]


def test_cards_that_the_filter_did_not_mean_are_passed_over(keap: KeapServer) -> None:
    everybody = keap.crm.list_contacts({})
    keap.fail_next(Fault(answer=Answer(200, everybody)))
    assert [purchase.email for purchase in connect(keap).purchases_of(ANNA)] == [ANNA]


def test_nothing_is_believed_only_of_an_account_that_shows_the_known_order(keap: KeapServer) -> None:
    assert connect(keap).purchases_of("nobody@example.com") == ()
    raised = raised_by(lambda: connect(keap, known_email="new@example.com").purchases_of("nobody@example.com"))
    assert type(raised) is AccessDenied
    assert "shows no purchase of known_email" in str(raised)


def test_a_known_order_is_looked_for_once_in_a_while(keap: KeapServer) -> None:
    crm = connect(keap)
    crm.purchases_of("nobody@example.com")
    before = len(keap.calls)
    crm.purchases_of("nobody@example.com")
    assert keap.calls[before:] == ["GET /crm/rest/v2/contacts"]


def test_a_tag_is_found_among_those_that_hold_its_name(keap: KeapServer) -> None:
    for name in ("lost-download-2024", "not lost-download", "Lost-Download"):
        keap.crm.create_tag({"name": name})
    crm = connect(keap)
    crm.tag(ANNA, "lost-download")
    crm.tag(ANNA, "lost-download")
    assert Cards(keap).tags_of(ANNA) == ["Lost-Download"]


def test_a_tag_that_somebody_else_makes_just_now_is_taken(keap: KeapServer) -> None:
    keap.crm.create_tag({"name": "lost-download"})
    keap.fail_next(Fault(answer=Answer(200, {"tags": []})), on="GET /crm/rest/v2/tags")
    connect(keap).tag(ANNA, "lost-download")
    assert Cards(keap).tags_of(ANNA) == ["lost-download"]
    keap.refuse(403, on="POST /crm/rest/v2/tags")
    assert type(raised_by(lambda: connect(keap).tag(ANNA, "new"))) is AccessDenied
    keap.refuse(400, on="POST /crm/rest/v2/tags")
    assert type(raised_by(lambda: connect(keap).tag(ANNA, "new"))) is Rejected


@pytest.mark.parametrize("tag", ["", "  ", "a*", "a;b", "a\nb"])
def test_a_tag_that_could_mean_others_is_refused(keap: KeapServer, tag: str) -> None:
    assert type(raised_by(lambda: connect(keap).tag(ANNA, tag))) is Rejected


def test_of_several_cards_the_oldest_is_tagged_and_every_one_is_searched_for_the_note(keap: KeapServer) -> None:
    for _ in range(10):
        keap.crm.add_contact("twice@example.com")
    oldest, *_, newest = [each["id"] for each in keap.crm.contacts.values() if has_address(each, "twice@example.com")]
    crm = connect(keap)
    crm.tag("twice@example.com", "lost-download")
    assert list(keap.crm.applied) == [oldest]
    keap.crm.create_note(newest, {"user_id": "1", "title": "x", "text": "Merged.\n\n[ref:e-2]"})
    probe = crm.settlements["note"].probe
    assert probe is not None
    assert probe("e-2", email="twice@example.com", text="Merged.") is not None


def test_a_note_is_written_in_the_name_that_the_settings_say(keap: KeapServer) -> None:
    connect(keap, note_title="Downloads").note(ANNA, "Änderung:\nlink <sent>", effect_id="e-1")
    (note,) = keap.crm.notes.values()
    assert (note["created_by_user_id"], note["title"]) == ("1", "Downloads")
    assert note["text"] == "Änderung:\nlink <sent>\n\n[ref:e-1]"
    assert type(raised_by(lambda: connect(keap, note_user=None).note(ANNA, "x", effect_id="e"))) is Rejected
    assert type(raised_by(lambda: connect(keap, note_user="99").note(ANNA, "x", effect_id="e"))) is Rejected


def test_it_declares_how_a_doubt_is_settled(keap: KeapServer) -> None:
    crm = connect(keap, visibility_delay_seconds=7)
    assert crm.settlements["tag"].doubt is DoubtClass.NATURAL
    assert (crm.settlements["note"].doubt, crm.settlements["note"].visibility_delay.total_seconds()) == (
        DoubtClass.PROBE,
        7,
    )
    assert set(crm.settlements) == {"tag", "note"}


def test_a_check_sees_the_known_customer_and_an_order(keap: KeapServer) -> None:
    assert connect(keap).check().endswith("shows the known contact, purchases of theirs: 1")
    assert connect(keap, assets={}).check().endswith("a known purchase is looked for as well")
    assert type(raised_by(connect(keap, known_email="nobody@example.com").check)) is NotFound
    assert type(raised_by(connect(keap, known_email="mia@winter-studio.example").check)) is NotFound
    assert type(raised_by(connect(keap, api_key="another").check)) is AccessDenied


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"api_key": None}, "needs one credential"),
        ({"client_id": "s3cret"}, "needs one credential"),
        ({"api_key": None, "client_id": "s3cret"}, "belong together"),
        ({"api_key": "s3cret two"}, "copy it again"),
        ({"api_key": "s3crét"}, "copy it again"),
        ({"known_email": "s3cret"}, "known_email"),
        ({"assets": {"X": "../s3cret"}}, "assets"),
        ({"base_url": "ftp://s3cret"}, "base_url"),
        ({"note_user": "s3cret"}, "note_user"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"asets": {}}, "asets"),
    ],
)
def test_wrong_settings_are_refused_by_name_and_never_shown(
    keap: KeapServer, changes: dict[str, object], named: str
) -> None:
    with pytest.raises(ValidationError, match=named) as caught:
        KeapSettings.model_validate(settings_of(keap).model_dump(exclude_unset=True) | changes)
    assert "s3cret" not in str(caught.value)


def test_the_settings_show_no_address_and_no_key(keap: KeapServer) -> None:
    shown = repr(settings_of(keap))
    assert ANNA not in shown
    assert keap.gate.api_key not in shown


def test_the_plug_in_offers_the_connector() -> None:
    offered: list[Connector[Any]] = []
    register_connectors(offered.append)
    assert offered == [
        Connector(name="keap", provides=(OrderRecords, Contacts), settings=KeapSettings, build=KeapAccount)
    ]


def test_the_section_in_the_manual_fits_once_its_key_is_given() -> None:
    manual = (ROOT / "docs" / "connectors" / "keap.md").read_text()
    (block,) = re.findall(r"```toml\n(.*?)```", manual, re.DOTALL)
    section = tomllib.loads(block)["connections"]["crm"]
    assert section.pop("connector") == "keap"
    assert KeapSettings.model_validate(section | {"api_key": "a-key"}).assets["1042"] == "courses/zippers.mp4"
    assert {name for name in KeapSettings.model_fields if f"`{name}`" not in manual} == set()
