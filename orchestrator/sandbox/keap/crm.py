"""What a Keap account holds, and how REST v2 shows it: shapes and filters as in the vendor's OpenAPI file.

Where that file leaves a thing open, this does what is harder for a client: a filter for a tag's name finds every
name that holds it, a filter for an address finds second addresses too, and pages are as small as one likes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Thing = dict[str, Any]
Test = Callable[[Thing, str], bool]
Emit = Callable[[str, str], None]

BUYER = ("id", "given_name", "family_name")
_DEFAULT_FIELDS = ("id", "given_name", "family_name", "email_addresses")


class Refused(Exception):
    """The account refuses a request.

    Args:
        status: The HTTP status.
        message: Why.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, kw_only=True)
class Sold:
    """A product of the account."""

    id: str
    name: str
    sku: str


@dataclass
class Crm:
    """One account.

    Args:
        clock: Tells the time.
        emit: Told of each change: an event's name and the id of what changed.
        largest_page: A list shows at most so many at once, whatever is asked for.
        lists_items: Whether a list of orders shows their items.
    """

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    emit: Emit = lambda _event, _id: None
    largest_page: int = 1000
    lists_items: bool = True
    contacts: dict[str, Thing] = field(default_factory=dict)
    orders: dict[str, Thing] = field(default_factory=dict)
    tags: dict[str, Thing] = field(default_factory=dict)
    notes: dict[str, Thing] = field(default_factory=dict)
    applied: dict[str, dict[str, str]] = field(default_factory=dict)
    """Contact to tag to the moment that it was applied."""
    users: set[str] = field(default_factory=lambda: {"1"})
    _last: int = 0

    def add_contact(self, *emails: str, given_name: str = "", family_name: str = "") -> str:
        """Add a contact; its first address is ``EMAIL1``."""
        addresses = [{"email": email, "field": f"EMAIL{place}"} for place, email in enumerate(emails, start=1)]
        contact = {"given_name": given_name, "family_name": family_name, "email_addresses": addresses, "tag_ids": []}
        return self._add(self.contacts, contact, "contact.add")

    def edit_contact(self, contact_id: str, **fields: str) -> None:
        """Change what stands on a contact's card."""
        self.contacts[contact_id] |= {**fields, "update_time": self._now()}
        self.emit("contact.edit", contact_id)

    def add_order(
        self,
        contact_id: str,
        *products: Sold,
        at: str,
        status: str = "PAID",
        refunded: int = 0,
        order_id: str | None = None,
    ) -> str:
        """Add an order; each product costs 10.00.

        Args:
            contact_id: Who ordered.
            products: What.
            at: When, as ISO 8601.
            status: ``DRAFT``, ``SENT``, ``VIEWED`` or ``PAID``.
            refunded: The amount that went back, in cents.
            order_id: Its id, if it must be a certain one.
        """
        total = 1000 * len(products)
        contact = self.contacts[contact_id]
        email = contact["email_addresses"][0]["email"] if contact["email_addresses"] else None
        order = {
            "title": "Online order",
            "status": status,
            "order_type": "ONLINE",
            "contact": {**{name: contact[name] for name in BUYER}, "email": email},
            "creation_time": at,
            "modification_time": at,
            "order_time": at,
            "total": _money(total),
            "total_paid": _money(total if status == "PAID" else 0),
            "refund_total": _money(refunded),
            "refund_status": "REFUNDED" if refunded else "NONE",
            "order_items": [_item(self._next_id(), product) for product in products],
        }
        return self._add(self.orders, order, "order.add", order_id)

    def list_contacts(self, query: Mapping[str, str]) -> Thing:
        """``GET /rest/v2/contacts``."""
        tests: dict[str, Test] = {
            "email": lambda thing, value: any(_like(each["email"], value) for each in thing["email_addresses"]),
            "given_name": lambda thing, value: _like(thing["given_name"], value),
            "family_name": lambda thing, value: _like(thing["family_name"], value),
            "ids": lambda thing, value: thing["id"] in value.split(","),
            "start_update_time": lambda thing, value: _moment(thing["update_time"]) >= _moment(value),
        }
        fields = query.get("fields", "").split(",") if query.get("fields") else _DEFAULT_FIELDS
        page = self._page("contacts", self.contacts.values(), tests, query, orders=("id", "create_time", "update_time"))
        page["contacts"] = [{name: thing[name] for name in thing if name in fields} for thing in page["contacts"]]
        return page

    def list_orders(self, query: Mapping[str, str]) -> Thing:
        """``GET /rest/v2/orders``."""
        tests: dict[str, Test] = {
            "contact_id": lambda thing, value: thing["contact"]["id"] == value,
            "id": lambda thing, value: thing["id"] == value,
            "created_since_time": lambda thing, value: _moment(thing["creation_time"]) >= _moment(value),
            "modified_since_time": lambda thing, value: _moment(thing["modification_time"]) >= _moment(value),
        }
        page = self._page(
            "orders", self.orders.values(), tests, query, orders=("id", "order_time", "modification_time")
        )
        if not self.lists_items:
            page["orders"] = [
                {name: value for name, value in thing.items() if name != "order_items"} for thing in page["orders"]
            ]
        return page

    def get_order(self, order_id: str) -> Thing:
        """``GET /rest/v2/orders/{order_id}``."""
        return _one(self.orders, order_id)

    def list_tags(self, query: Mapping[str, str]) -> Thing:
        """``GET /rest/v2/tags``."""
        tests: dict[str, Test] = {"name": lambda thing, value: value.casefold() in thing["name"].casefold()}
        return self._page("tags", self.tags.values(), tests, query, orders=("name", "create_time", "update_time"))

    def create_tag(self, body: Thing) -> Thing:
        """``POST /rest/v2/tags``; the name is unique."""
        name = str(body.get("name") or "")[:255]
        if not name:
            raise Refused(400, "name is required")
        if any(tag["name"].casefold() == name.casefold() for tag in self.tags.values()):
            raise Refused(409, "a tag of that name exists")
        return self.tags[self._add(self.tags, {"name": name, "description": str(body.get("description") or "")}, None)]

    def apply_tag(self, tag_id: str, body: Thing) -> Thing:
        """``POST /rest/v2/tags/{tag_id}/contacts:applyTags``."""
        _one(self.tags, tag_id)
        results = {str(contact_id): self._apply(tag_id, str(contact_id)) for contact_id in _listed(body, "contact_ids")}
        return {"results": results}

    def _apply(self, tag_id: str, contact_id: str) -> str:
        if contact_id not in self.contacts:
            return "FAILURE"
        applied = self.applied.setdefault(contact_id, {})
        if tag_id in applied:
            return "DUPLICATE"
        applied[tag_id] = self._now()
        self.emit("contactGroup.applied", contact_id)
        return "SUCCESS"

    def list_contact_tags(self, contact_id: str, query: Mapping[str, str]) -> Thing:
        """``GET /rest/v2/contacts/{contact_id}/tags``."""
        _one(self.contacts, contact_id)
        applied = self.applied.get(contact_id, {}).items()
        things = [{"id": tag_id, "tag": self.tags[tag_id], "applied_time": at} for tag_id, at in applied]
        tests: dict[str, Test] = {"name": lambda thing, value: value.casefold() in thing["tag"]["name"].casefold()}
        page = self._page("tags", things, tests, query, orders=("applied_time",))
        page["tags"] = [{"tag": thing["tag"], "applied_time": thing["applied_time"]} for thing in page["tags"]]
        return page

    def list_notes(self, contact_id: str, query: Mapping[str, str]) -> Thing:
        """``GET /rest/v2/contacts/{contact_id}/notes``."""
        _one(self.contacts, contact_id)
        notes = [note for note in self.notes.values() if note["contact_id"] == contact_id]
        tests: dict[str, Test] = {"title": lambda thing, value: _like(thing["title"], f"*{value}")}
        return self._page("notes", notes, tests, query, orders=("id", "create_time", "update_time"))

    def create_note(self, contact_id: str, body: Thing) -> Thing:
        """``POST /rest/v2/contacts/{contact_id}/notes``; needs ``user_id``, and a title or a type."""
        _one(self.contacts, contact_id)
        if str(body.get("user_id") or "") not in self.users:
            raise Refused(400, "user_id is required, and must be a user of this account")
        if not body.get("title") and not body.get("type"):
            raise Refused(400, "a value for either title or type is required")
        note = {name: str(body.get(name) or "") for name in ("title", "text", "type")}
        note |= {"contact_id": contact_id, "created_by_user_id": str(body["user_id"])}
        return self.notes[self._add(self.notes, note, "note.add")]

    def _add(self, shelf: dict[str, Thing], thing: Thing, event: str | None, wanted: str | None = None) -> str:
        new_id = wanted or self._next_id()
        shelf[new_id] = {"id": new_id, "create_time": self._now(), "update_time": self._now(), **thing}
        if shelf is self.orders:
            del shelf[new_id]["create_time"], shelf[new_id]["update_time"]
        if event:
            self.emit(event, new_id)
        return new_id

    def _next_id(self) -> str:
        self._last += 1
        return str(self._last)

    def _now(self) -> str:
        return self.clock().strftime("%Y-%m-%dT%H:%M:%S.000Z")

    def _page(
        self,
        name: str,
        things: Iterable[Thing],
        tests: Mapping[str, Test],
        query: Mapping[str, str],
        *,
        orders: Sequence[str],
    ) -> Thing:
        found = [thing for thing in things if all(tests[key](thing, value) for key, value in _filters(query, tests))]
        found = _ordered(found, query.get("order_by", ""), orders)
        size, start = _size(query, self.largest_page), _start(query)
        page: Thing = {name: found[start : start + size]}
        if start + size < len(found):
            page["next_page_token"] = f"from-{start + size}"
        return page


def _filters(query: Mapping[str, str], known: Mapping[str, Test]) -> list[tuple[str, str]]:
    parts = [part.partition("==") for part in query.get("filter", "").split(";") if part]
    for name, operator, _ in parts:
        if not operator or name not in known:
            raise Refused(400, f"filter: {name} is not allowed")
    return [(name, value) for name, _, value in parts]


def _ordered(things: list[Thing], order_by: str, allowed: Sequence[str]) -> list[Thing]:
    if not order_by:
        return things
    name, _, direction = order_by.partition(" ")
    if name not in allowed or direction not in ("", "asc", "desc"):
        raise Refused(400, f"order_by: {order_by} is not allowed")
    return sorted(things, key=lambda thing: str(thing[name]), reverse=direction == "desc")


def _size(query: Mapping[str, str], largest: int) -> int:
    text = query.get("page_size", "1000")
    if not text.isdecimal() or int(text) > 1000:  # noqa: PLR2004 - the vendor's limit
        raise Refused(400, "page_size must be from 0 to 1000")
    return min(int(text) or 1000, largest)


def _start(query: Mapping[str, str]) -> int:
    if not (token := query.get("page_token")):
        return 0
    if not (found := re.fullmatch("from-([0-9]{1,9})", token)):
        raise Refused(400, "page_token is none of ours")
    return int(found[1])


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise Refused(400, "times are written as 2026-01-01T00:00:00.000Z") from None


def _like(text: str, pattern: str) -> bool:
    """Compare as the vendor's filters do: without regard to case; a star stands for anything."""
    parts = map(re.escape, pattern.casefold().split("*"))
    return re.fullmatch(".*".join(parts), text.casefold(), re.DOTALL) is not None


def _one(shelf: Mapping[str, Thing], wanted: str) -> Thing:
    try:
        return shelf[wanted]
    except KeyError:
        raise Refused(404, "there is nothing of that id") from None


def _listed(body: Thing, name: str) -> list[Any]:
    found = body.get(name)
    if not isinstance(found, list) or not found:
        raise Refused(400, f"{name} is required")
    return found


def _money(cents: int) -> Thing:
    return {"amount": cents, "currency_code": "EUR", "formatted_amount": f"€{cents / 100:.2f}"}


def _item(item_id: str, product: Sold) -> Thing:
    return {
        "id": item_id,
        "name": product.name,
        "quantity": 1,
        "item_type": "PRODUCT",
        "product": {"id": product.id, "name": product.name, "sku": product.sku, "shippable": False, "taxable": True},
        "price_per_unit": _money(1000),
    }
