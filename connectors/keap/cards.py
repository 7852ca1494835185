"""Contact cards: found by their address, tagged, and noted on."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from orchestrator.capabilities import EmailAddress, Receipt
from orchestrator.errors import NotFound, Rejected, Unavailable
from orchestrator_connectors.keap.api import Page, Session

_ADDRESS: TypeAdapter[str] = TypeAdapter(EmailAddress)
_MEANS_MORE = frozenset("*;")
"""What stands for "anything" and for "and" in a filter of Keap's."""
_FAILED = "FAIL"


class Email(BaseModel, hide_input_in_errors=True):
    """One address on a card."""

    email: str | None = None


class Card(BaseModel, hide_input_in_errors=True, coerce_numbers_to_str=True):
    """What we read of a contact."""

    id: str = Field(min_length=1)
    given_name: str | None = None
    family_name: str | None = None
    email_addresses: list[Email] | None = None

    def has(self, address: str) -> bool:
        """Tell whether the address stands on the card: a filter may find more than it was asked for."""
        return any((each.email or "").strip().casefold() == address for each in self.email_addresses or ())


class _Cards(Page):
    contacts: list[Card] | None = None


class _Tag(BaseModel, hide_input_in_errors=True, coerce_numbers_to_str=True):
    id: str = Field(min_length=1)
    name: str | None = None


class _Tags(Page):
    tags: list[_Tag] | None = None


class _Applied(BaseModel, hide_input_in_errors=True, coerce_numbers_to_str=True):
    results: dict[str, str] | None = None


class _Note(BaseModel, hide_input_in_errors=True, coerce_numbers_to_str=True):
    id: str = Field(min_length=1)
    text: str | None = None


class _Notes(Page):
    notes: list[_Note] | None = None


def plain_address(email: str) -> str:
    """Return the address as it is compared.

    Raises:
        Rejected: It is no plain address; in a filter it could mean others.
    """
    try:
        address = _ADDRESS.validate_python(email).casefold()
    except ValidationError:
        raise Rejected("that is no plain mail address, so that Keap is not asked for it") from None
    if not address.isprintable():
        raise Rejected("that address holds characters that cannot be seen, so that Keap is not asked for it")
    return address


def cards_of(session: Session, address: str) -> list[Card]:
    """Return the contacts with this address, the oldest first: Keap keeps duplicates until somebody merges them."""
    wanted = {"filter": f"email=={address}", "fields": "id,email_addresses,given_name,family_name"}
    pages = session.pages("/rest/v2/contacts", _Cards, wanted)
    cards = {card.id: card for page in pages for card in page.contacts or () if card.has(address)}
    return sorted(cards.values(), key=lambda card: (len(card.id), card.id))


def tag_card(session: Session, address: str, tag: str) -> Receipt:
    """Apply a tag to the oldest card, and make the tag if there is none of that name."""
    name = tag.strip()
    if not name or not name.isprintable() or _MEANS_MORE & set(name):
        raise Rejected("a tag's name must be printable, and hold neither * nor ;")
    card = _oldest(session, address)
    tag_id = _tag_of(session, name) or _new_tag(session, name)
    path = f"/rest/v2/tags/{tag_id}/contacts:applyTags"
    applied = session.post(path, {"contact_ids": [card.id]}, _Applied, about_one=True)
    if _FAILED in ((applied.results or {}).get(card.id) or "").upper():
        raise Rejected(f"{session.place}: the tag could not be applied")
    return Receipt(reference=f"tag {tag_id}")


def note_on_card(session: Session, address: str, note: dict[str, object]) -> Receipt:
    """Add a note to the oldest card."""
    card = _oldest(session, address)
    return Receipt(reference=session.post(f"/rest/v2/contacts/{card.id}/notes", note, _Note, about_one=True).id)


def find_note(session: Session, address: str, marker: str) -> Receipt | None:
    """Look for a note with that marker on every card with the address; the newest notes come first."""
    for card in cards_of(session, address):
        for note in _notes_of(session, card):
            if marker in (note.text or ""):
                return Receipt(reference=note.id)
    return None


def _notes_of(session: Session, card: Card) -> Iterator[_Note]:
    path = f"/rest/v2/contacts/{card.id}/notes"
    try:
        for page in session.pages(path, _Notes, {"order_by": "create_time desc"}, about_one=True):
            yield from page.notes or ()
    except NotFound as error:
        # Merged into another card just now, and its notes with it.
        raise Unavailable(f"{session.place}: a contact vanished while its notes were read", no_effect=True) from error


def _oldest(session: Session, address: str) -> Card:
    if not (cards := cards_of(session, address)):
        raise NotFound(f"{session.place}: no contact has that address")
    return cards[0]


def _tag_of(session: Session, name: str) -> str | None:
    pages = session.pages("/rest/v2/tags", _Tags, {"filter": f"name=={name}"})
    ids = [tag.id for page in pages for tag in page.tags or () if (tag.name or "").casefold() == name.casefold()]
    return min(ids, key=lambda found: (len(found), found), default=None)


def _new_tag(session: Session, name: str) -> str:
    try:
        return session.post("/rest/v2/tags", {"name": name}, _Tag).id
    except Rejected:
        # Names are unique: somebody may have made it just now.
        if found := _tag_of(session, name):
            return found
        raise
