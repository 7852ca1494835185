"""What every connector that keeps contact cards must do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

import pytest

from orchestrator.capabilities import Contacts, Receipt
from orchestrator.errors import NotFound, Rejected, Unavailable
from orchestrator.plugins import Connection, Settlement, with_effect_id
from orchestrator.testing.contracts.doubts import finds, settle

FOREIGN = "Gr\u00fc\u00dfe, \u65e5\u672c\u8a9e, \U0001f4e6 & <b>100 %</b>"
FOREIGN_TAG = "Gr\u00f6\u00dfe 38, \u65e5\u672c\u8a9e"
NOBODY = "nobody-at-all@example.invalid"


class ContactConnection(Contacts, Connection, Protocol):
    """The connection under test."""

    @property
    def settlements(self) -> Mapping[str, Settlement]:
        """How doubts are settled."""
        ...


class ContactCards(Protocol):
    """What the tests see of the system behind the connection, past the connection."""

    @property
    def known(self) -> str:
        """The address of a contact without tags and notes."""

    def tags_of(self, email: str) -> Collection[str]:
        """See the tags on the card."""

    def notes_of(self, email: str) -> Collection[str]:
        """See the notes on the card."""

    def drop_next_answer(self) -> None:
        """Let the next call act, and then lose its connection."""


class ContactsContract:
    """Give the fixtures ``contacts`` and ``cards``."""

    @pytest.fixture
    def contacts(self) -> ContactConnection:
        """The connection under test."""
        raise NotImplementedError("give the fixture contacts: the connection under test")

    @pytest.fixture
    def cards(self) -> ContactCards:
        """The system behind it."""
        raise NotImplementedError("give the fixture cards: what is seen of the system behind the connection")

    def test_a_tag_stands_on_the_card(self, contacts: ContactConnection, cards: ContactCards) -> None:
        with_effect_id(contacts.tag, "effect-1")(cards.known, "lost-download")
        assert set(cards.tags_of(cards.known)) == {"lost-download"}

    def test_a_tag_in_any_script_stands_on_the_card(self, contacts: ContactConnection, cards: ContactCards) -> None:
        for effect_id in ("effect-1", "effect-2"):
            with_effect_id(contacts.tag, effect_id)(cards.known, FOREIGN_TAG)
        assert list(cards.tags_of(cards.known)) == [FOREIGN_TAG]

    def test_a_note_stands_on_the_card(self, contacts: ContactConnection, cards: ContactCards) -> None:
        receipt = with_effect_id(contacts.note, "effect-1")(cards.known, "A fresh link was sent.")
        assert len(cards.notes_of(cards.known)) == 1
        assert "A fresh link was sent." in "".join(cards.notes_of(cards.known))
        assert receipt.reference

    def test_a_note_is_read_word_for_word(self, contacts: ContactConnection, cards: ContactCards) -> None:
        with_effect_id(contacts.note, "effect-1")(cards.known, FOREIGN)
        assert FOREIGN in "".join(cards.notes_of(cards.known))

    def test_the_same_note_of_two_effects_stands_there_twice(
        self, contacts: ContactConnection, cards: ContactCards
    ) -> None:
        for effect_id in ("effect-1", "effect-2"):
            with_effect_id(contacts.note, effect_id)(cards.known, "A fresh link was sent.")
        assert len(cards.notes_of(cards.known)) == 2

    def test_a_customer_without_a_card_is_not_found(self, contacts: ContactConnection) -> None:
        with pytest.raises(NotFound):
            with_effect_id(contacts.tag, "effect-1")(NOBODY, "lost-download")
        with pytest.raises(NotFound):
            with_effect_id(contacts.note, "effect-2")(NOBODY, "A fresh link was sent.")

    def test_an_address_in_any_script_is_nobodys(self, contacts: ContactConnection) -> None:
        with pytest.raises((NotFound, Rejected)) as caught:
            with_effect_id(contacts.note, "effect-1")("gr\u00f6\u00dfe@b\u00fccher.example", "A fresh link was sent.")
        assert caught.value.no_effect is True

    def test_a_tag_whose_answer_was_lost_stands_there_once(
        self, contacts: ContactConnection, cards: ContactCards
    ) -> None:
        def tag() -> Receipt:
            return with_effect_id(contacts.tag, "effect-1")(cards.known, "lost-download")

        cards.drop_next_answer()
        with pytest.raises(Unavailable) as caught:
            tag()
        assert caught.value.no_effect is False, "it had acted: the failure must not claim that it has not"
        settle(contacts.settlements["tag"], "effect-1", tag, email=cards.known, tag="lost-download")
        assert list(cards.tags_of(cards.known)) == ["lost-download"]

    def test_a_note_whose_answer_was_lost_stands_there_once(
        self, contacts: ContactConnection, cards: ContactCards
    ) -> None:
        def note() -> Receipt:
            return with_effect_id(contacts.note, "effect-1")(cards.known, "A fresh link was sent.")

        cards.drop_next_answer()
        with pytest.raises(Unavailable) as caught:
            note()
        assert caught.value.no_effect is False, "it had acted: the failure must not claim that it has not"
        settle(contacts.settlements["note"], "effect-1", note, email=cards.known, text="A fresh link was sent.")
        assert len(cards.notes_of(cards.known)) == 1

    def test_a_probe_finds_what_was_done(self, contacts: ContactConnection, cards: ContactCards) -> None:
        with_effect_id(contacts.tag, "effect-1")(cards.known, "lost-download")
        with_effect_id(contacts.note, "effect-2")(cards.known, "A fresh link was sent.")
        assert finds(contacts.settlements["tag"], "effect-1", email=cards.known, tag="lost-download")
        assert finds(contacts.settlements["note"], "effect-2", email=cards.known, text="A fresh link was sent.")

    def test_a_probe_does_not_find_what_never_happened(self, contacts: ContactConnection, cards: ContactCards) -> None:
        with_effect_id(contacts.note, "effect-1")(cards.known, "A fresh link was sent.")
        probe = contacts.settlements["note"].probe
        if probe is not None:
            assert probe("effect-2", email=cards.known, text="A fresh link was sent.") is None

    def test_a_check_says_in_one_line_what_it_saw(self, contacts: ContactConnection, cards: ContactCards) -> None:
        seen = contacts.check()
        assert len(seen.splitlines()) == 1
        assert cards.known not in seen
