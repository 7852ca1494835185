"""The vendor's own client reads our stand-in for its service: shapes, types, names and paging as it expects them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from keap_core_v2_client import ApiClient, Configuration
from keap_core_v2_client.api.contact_api import ContactApi
from keap_core_v2_client.api.note_api import NoteApi
from keap_core_v2_client.api.orders_api import OrdersApi
from keap_core_v2_client.api.tags_api import TagsApi
from keap_core_v2_client.exceptions import ApiException
from keap_core_v2_client.models.apply_remove_tag_request import ApplyRemoveTagRequest
from keap_core_v2_client.models.create_note_request import CreateNoteRequest
from keap_core_v2_client.models.create_update_tag_request import CreateUpdateTagRequest

from orchestrator.sandbox.keap import KeapServer
from orchestrator.sandbox.shop import REFUNDED
from tests.support.keap_account import ANNA, account, connect


@pytest.fixture
def keap() -> Iterator[KeapServer]:
    with account() as server:
        yield server


@pytest.fixture
def vendor(keap: KeapServer) -> Iterator[ApiClient]:
    tokens = keap.gate.new_tokens()
    client = ApiClient(Configuration(host=keap.base_url, access_token=tokens["access_token"]))
    yield client
    client.rest_client.pool_manager.clear()


def shown(thing: Any) -> Any:
    """Return what the vendor's model holds, as JSON: what it does not know is not in there."""
    return thing.to_dict() if thing is not None else None


def test_contacts_are_what_the_vendor_expects(keap: KeapServer, vendor: ApiClient) -> None:
    found = ContactApi(vendor).list_contacts(filter=f"email=={ANNA}", fields=["email_addresses", "given_name", "id"])
    (contact,) = found.contacts
    assert (contact.id, contact.given_name, contact.email_addresses[0].email) == ("1", "Anna", ANNA)
    assert contact.family_name is None
    everything = ContactApi(vendor).list_contacts(fields=list(keap.crm.contacts["1"]))
    assert [shown(each) for each in everything.contacts] == list(keap.crm.contacts.values())


@pytest.mark.parametrize("spell", [str.lower, str.upper, str.title])
def test_names_of_headers_are_read_however_they_are_spelt(keap: KeapServer, spell: Callable[[str], str]) -> None:
    connection = HTTPConnection("127.0.0.1", urlsplit(keap.url).port)
    with closing(connection):
        connection.request("GET", "/crm/rest/v2/contacts", headers={spell("X-Keap-API-Key"): keap.gate.api_key})
        assert connection.getresponse().status == 200


def test_a_list_of_orders_without_items_leaves_them_out(keap: KeapServer, vendor: ApiClient) -> None:
    keap.crm.lists_items = False
    for order in keap.crm.list_orders({})["orders"]:
        assert "order_items" not in order  # the vendor's document knows a list there, and no null
    assert OrdersApi(vendor).list_orders(filter="contact_id==3").orders[0].order_items is None


def test_orders_are_what_the_vendor_expects(keap: KeapServer, vendor: ApiClient) -> None:
    orders = OrdersApi(vendor).list_orders(filter="contact_id==3", order_by="order_time desc").orders
    assert [order.id for order in orders] == ["1058", "1012"]
    assert (orders[1].contact.email, orders[1].refund_total.amount, orders[1].status) == (REFUNDED, 1000, "PAID")
    assert orders[1].order_items[0].product.sku == "ZIPPERS-WITHOUT-FEAR"
    one = shown(OrdersApi(vendor).get_order("1058"))
    held = keap.crm.orders["1058"]
    moments = {name for name in held if name.endswith("_time")}
    assert {name: one[name] for name in held if name not in moments} == {
        name: held[name] for name in held if name not in moments
    }
    assert {f"{one[name]:%Y-%m-%dT%H:%M:%SZ}" for name in moments} == {held["order_time"]}


def test_pages_are_followed_as_the_vendor_does(keap: KeapServer, vendor: ApiClient) -> None:
    orders, seen, token = OrdersApi(vendor), [], None
    while token is None or token:
        page = orders.list_orders(page_size=4, page_token=token)
        seen.append([order.id for order in page.orders])
        token = page.next_page_token or ""
    assert [len(ids) for ids in seen] == [4, 2]
    assert sorted(each for ids in seen for each in ids) == sorted(keap.crm.orders)


def test_the_vendor_sees_what_the_connector_did(keap: KeapServer, vendor: ApiClient) -> None:
    crm = connect(keap)
    crm.tag(ANNA, "lost-download")
    receipt = crm.note(ANNA, "Änderung.", effect_id="e-2")
    (applied,) = ContactApi(vendor).list_tags_for_contact("1").tags
    assert applied.tag.name == "lost-download"
    (note,) = NoteApi(vendor).list_notes("1", order_by="create_time desc").notes
    assert (note.id, note.text, note.title) == (receipt.reference, "Änderung.\n\n[ref:e-2]", "Support")
    assert shown(note) == keap.crm.notes[note.id]


def test_the_connector_sees_what_the_vendor_did(keap: KeapServer, vendor: ApiClient) -> None:
    tag = TagsApi(vendor).create_tag(CreateUpdateTagRequest(name="lost-download"))
    answer = TagsApi(vendor).apply_tags(tag.id, ApplyRemoveTagRequest(contact_ids=["1"]))
    assert answer.results == {"1": "SUCCESS"}
    NoteApi(vendor).create_note("1", CreateNoteRequest(title="x", text="Done. [ref:e-1]", user_id="1"))
    crm = connect(keap)
    crm.tag(ANNA, "lost-download")
    assert list(keap.crm.tags) == [tag.id]
    probe = crm.settlements["note"].probe
    assert probe is not None
    assert probe("e-1", email=ANNA, text="Done.") is not None


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (lambda client: ContactApi(client).list_contacts(filter="no_such_field==1"), 400),
        (lambda client: OrdersApi(client).list_orders(order_by="title desc"), 400),
        (lambda client: OrdersApi(client).get_order("999"), 404),
        (lambda client: NoteApi(client).create_note("1", CreateNoteRequest(text="no title", user_id="1")), 400),
        (lambda client: TagsApi(client).create_tag(CreateUpdateTagRequest(name="")), 400),
    ],
)
def test_refusals_are_what_the_vendor_expects(vendor: ApiClient, call: Any, status: int) -> None:
    with pytest.raises(ApiException) as caught:
        call(vendor)
    assert caught.value.status == status
