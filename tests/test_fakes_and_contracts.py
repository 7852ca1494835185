from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from orchestrator.capabilities import Asset, Purchase, Receipt
from orchestrator.errors import NotFound, RateLimited, Unavailable
from orchestrator.testing.behind import FakeCards, FakeStore
from orchestrator.testing.contacts import FakeContacts
from orchestrator.testing.contracts.contacts import ContactsContract
from orchestrator.testing.contracts.files import FileLinksContract
from orchestrator.testing.contracts.orders import OrderRecordsContract
from orchestrator.testing.files import FakeFiles
from orchestrator.testing.orders import FakeOrders
from orchestrator.testing.scripted import Call

HOUR = timedelta(hours=1)
DRESS = Asset(key="patterns/linen-summer-dress.zip")
MISSING = Asset(key="patterns/nowhere.zip")
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def purchase(order: str, day: int, email: str = "Anna.Berg@example.com", *, refunded: bool = False) -> Purchase:
    return Purchase(
        order=order, product="Dress", asset=DRESS, email=email, bought_on=date(2026, 1, day), refunded=refunded
    )


ANNAS = (purchase("S-3", 30), purchase("S-2", 20, refunded=True), purchase("S-1", 10))


class TestFakeFiles(FileLinksContract):
    @pytest.fixture
    def files(self) -> FakeFiles:
        return FakeFiles(DRESS)

    @pytest.fixture
    def store(self, files: FakeFiles) -> FakeStore:
        return FakeStore(files, present=DRESS, missing=MISSING)


class TestFakeOrders(OrderRecordsContract):
    @pytest.fixture
    def orders(self) -> FakeOrders:
        return FakeOrders(*reversed(ANNAS), purchase("S-9", 5, "tom.okafor@example.org"))

    @pytest.fixture
    def known(self) -> tuple[Purchase, ...]:
        return ANNAS


class TestFakeContacts(ContactsContract):
    @pytest.fixture
    def contacts(self) -> FakeContacts:
        return FakeContacts("Anna.Berg@example.com")

    @pytest.fixture
    def cards(self, contacts: FakeContacts) -> FakeCards:
        return FakeCards(contacts, known="anna.berg@example.com")


def test_a_fake_records_what_it_was_asked_even_if_it_failed() -> None:
    files = FakeFiles(DRESS)
    files.fail_next(Unavailable("down"))
    with pytest.raises(Unavailable):
        files.link_to(DRESS, valid_for=HOUR, effect_id="effect-1")
    assert files.exists(DRESS)
    assert files.calls == [
        Call("link_to", {"asset": DRESS, "valid_for": HOUR}),
        Call("exists", {"asset": DRESS}),
    ]
    assert files.links == []


def test_a_fake_fails_in_the_order_it_was_told() -> None:
    orders = FakeOrders(*ANNAS)
    orders.fail_next(Unavailable("down"))
    orders.fail_next(RateLimited("slow down"))
    for error in (Unavailable, RateLimited):
        with pytest.raises(error):
            orders.purchases_of("anna.berg@example.com")
    assert orders.purchases_of("anna.berg@example.com") == ANNAS


def test_a_fake_may_act_and_then_fail() -> None:
    contacts = FakeContacts("anna.berg@example.com")
    contacts.fail_next(Unavailable("the connection was lost"), after_acting=True)
    with pytest.raises(Unavailable):
        contacts.note("anna.berg@example.com", "A fresh link was sent.", effect_id="effect-1")
    assert contacts.cards["anna.berg@example.com"].notes == ["A fresh link was sent."]
    probe = contacts.settlement("note").probe
    assert probe is not None
    assert probe("effect-1") == Receipt(reference="note 1")


def test_a_link_of_the_fake_stops_to_open_when_it_ends() -> None:
    now = NOON
    files = FakeFiles(DRESS, longest=2 * HOUR, now=lambda: now)
    link = files.link_to(DRESS, valid_for=3 * HOUR)
    assert link.expires_at == NOON + 2 * HOUR
    assert files.download(link.url) == files.contents[DRESS]
    now = link.expires_at
    assert files.download(link.url) is None


def test_the_fake_refuses_a_link_to_a_missing_file() -> None:
    with pytest.raises(NotFound):
        FakeFiles().link_to(DRESS, valid_for=HOUR)


@pytest.mark.parametrize("fake", [FakeFiles(), FakeContacts()], ids=lambda fake: type(fake).__name__)
def test_a_fake_knows_its_own_effects_alone(fake: FakeFiles | FakeContacts) -> None:
    with pytest.raises(LookupError):
        fake.settlement("send")


@pytest.mark.parametrize(
    ("contract", "promises"),
    [
        (
            FileLinksContract,
            """
            a_check_says_in_one_line_what_it_saw
            a_file_that_is_missing_does_not_exist
            a_file_that_is_there_exists
            a_link_may_be_asked_for_again
            a_link_never_claims_to_last_longer_than_asked
            a_link_opens_the_file_without_a_credential
            a_link_that_would_have_ended_already_is_rejected
            a_missing_file_gives_no_link_that_opens
            a_printed_link_does_not_show_its_address
            """,
        ),
        (
            OrderRecordsContract,
            """
            a_check_says_in_one_line_what_it_saw
            a_pattern_is_no_address
            an_address_is_matched_without_regard_to_case
            an_unknown_address_has_no_purchases
            asking_again_gives_the_same_answer
            every_purchase_is_found_and_the_newest_comes_first
            printed_purchases_do_not_show_the_customer
            refunded_purchases_are_found_and_marked
            """,
        ),
        (
            ContactsContract,
            """
            a_check_says_in_one_line_what_it_saw
            a_customer_without_a_card_is_not_found
            a_note_is_read_word_for_word
            a_note_stands_on_the_card
            a_note_whose_answer_was_lost_stands_there_once
            a_probe_does_not_find_what_never_happened
            a_tag_stands_on_the_card
            a_tag_whose_answer_was_lost_stands_there_once
            the_same_note_of_two_effects_stands_there_twice
            """,
        ),
    ],
)
def test_a_contract_loses_no_promise(contract: type, promises: str) -> None:
    assert sorted(name for name in vars(contract) if name.startswith("test_")) == [
        f"test_{promise}" for promise in promises.split()
    ]
