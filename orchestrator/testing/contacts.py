"""A stand-in for the system that keeps contact cards."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.capabilities import Receipt
from orchestrator.errors import NotFound
from orchestrator.plugins import DoubtClass, Settlement
from orchestrator.testing.fault_script import Scripted


@dataclass
class Card:
    """What is noted down about one customer."""

    tags: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


class FakeContacts(Scripted):
    """Cards by the customer's address. A tag is there or not; a note is added with each call, and can be looked for."""

    def __init__(self, *emails: str) -> None:
        super().__init__()
        self.cards = {email.casefold(): Card() for email in emails}
        self._noted: dict[str, Receipt] = {}
        self.settlements = {
            "tag": Settlement(doubt=DoubtClass.NATURAL),
            "note": Settlement(doubt=DoubtClass.PROBE, probe=self._look_for_note),
        }

    def tag(self, email: str, tag: str) -> Receipt:
        """Tag the customer."""
        with self._call("tag", email=email, tag=tag):
            self._card(email).tags.add(tag)
            return Receipt(reference=f"tag {tag}")

    def note(self, email: str, text: str, *, effect_id: str | None = None) -> Receipt:
        """Add a note to the customer's card."""
        with self._call("note", email=email, text=text):
            notes = self._card(email).notes
            notes.append(text)
            receipt = Receipt(reference=f"note {len(notes)}")
            if effect_id is not None:
                self._noted[effect_id] = receipt
            return receipt

    def check(self) -> str:
        """Count the cards."""
        return f"a fake with {len(self.cards)} contacts"

    def _look_for_note(self, effect_id: str, **_arguments: object) -> Receipt | None:
        return self._noted.get(effect_id)

    def _card(self, email: str) -> Card:
        try:
            return self.cards[email.casefold()]
        except KeyError as error:
            raise NotFound("no contact has that address") from error
