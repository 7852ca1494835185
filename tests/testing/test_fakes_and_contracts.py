from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from orchestrator.capabilities import Asset, Contacts, FileLinks, Purchase, Receipt
from orchestrator.errors import NotFound, RateLimited, Unavailable
from orchestrator.plugins import Settlement
from orchestrator.plugins.settlements import settlement_problems
from orchestrator.testing.contacts import FakeContacts
from orchestrator.testing.contracts.contacts import ContactsContract
from orchestrator.testing.contracts.faults import ConnectorHygieneContract, FaultsContract
from orchestrator.testing.contracts.files import FileLinksContract
from orchestrator.testing.contracts.mail import MailboxContract, MailerContract
from orchestrator.testing.contracts.notices import NotifierContract
from orchestrator.testing.contracts.orders import OrderRecordsContract
from orchestrator.testing.fake_backends import FakeCards, FakePost, FakeStore
from orchestrator.testing.fault_script import Call
from orchestrator.testing.files import FakeFiles
from orchestrator.testing.mail import FakeMailer
from orchestrator.testing.orders import FakeOrders

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
        files.link_to(DRESS, valid_for=HOUR)
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
    probe = contacts.settlements["note"].probe
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
    provides = FileLinks if isinstance(fake, FakeFiles) else Contacts
    assert settlement_problems(fake, (provides,)) == []


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
            an_address_in_any_script_has_no_purchases_of_others
            an_address_is_matched_without_regard_to_case
            an_unknown_address_has_no_purchases
            asking_again_gives_the_same_answer
            each_purchase_is_found_once
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
            a_probe_finds_what_was_done
            a_tag_in_any_script_stands_on_the_card
            a_tag_stands_on_the_card
            a_tag_whose_answer_was_lost_stands_there_once
            an_address_in_any_script_is_nobodys
            the_same_note_of_two_effects_stands_there_twice
            """,
        ),
        (
            FaultsContract,
            """
            a_change_is_not_sent_once_its_time_is_over
            a_change_that_is_put_off_has_no_effect
            a_change_whose_answer_was_lost_is_in_doubt
            a_change_without_a_credential_has_no_effect
            a_credential_that_ends_in_the_middle_is_denied
            a_system_that_asks_to_slow_down_need_not_say_how_long
            a_system_that_failed_may_work_later
            an_answer_that_nobody_understands_is_an_error_of_ours
            no_answer_in_time_is_unavailable
            the_wait_that_the_system_asks_for_is_handed_on
            """,
        ),
        (
            ConnectorHygieneContract,
            """
            a_check_explains_a_wrong_credential
            a_check_explains_an_address_where_nobody_listens
            building_it_asks_nobody
            importing_it_asks_nobody
            it_does_not_show_its_credential
            """,
        ),
        (
            MailerContract,
            """
            a_check_says_in_one_line_what_it_saw
            a_line_break_in_the_subject_adds_no_header
            a_mail_in_doubt_arrives_once_whatever_the_providers_clock_says
            a_mail_that_was_lost_late_is_in_doubt_and_not_found
            a_mail_whose_answer_was_lost_is_in_doubt_and_found
            a_malformed_message_id_is_left_out
            a_probe_finds_its_own_mail_alone
            a_recipient_whom_the_provider_refuses_is_rejected
            a_refused_mail_does_not_spoil_the_next_one
            a_subject_arrives_as_it_was_written
            a_text_arrives_as_it_was_written
            an_answer_names_what_it_answers
            each_effect_has_a_message_id_of_its_own
            html_arrives_beside_the_text
            what_is_not_one_address_is_rejected
            """,
        ),
        (
            MailboxContract,
            """
            a_check_says_in_one_line_what_it_saw
            a_cursor_that_is_not_honoured_starts_at_the_beginning
            a_deleted_mail_does_not_hide_the_next_one
            a_mail_carries_the_time_of_its_arrival
            a_printed_mail_does_not_show_its_content
            an_empty_mailbox_shows_nothing
            every_mail_is_read_byte_for_byte
            nothing_is_lost_when_the_mailboxs_clock_is_off
            nothing_is_lost_when_the_mails_are_renumbered
            of_a_large_mail_only_the_headers_are_read
            only_mail_behind_the_position_is_new
            pages_hold_each_mail_once_in_order
            reading_changes_nothing
            the_same_mail_twice_is_two_mails
            """,
        ),
        (
            NotifierContract,
            """
            a_check_says_in_one_line_what_it_saw_and_tells_nobody
            a_notice_is_read_word_for_word
            a_notice_whose_answer_was_lost_is_never_lost
            a_probe_finds_what_was_done
            two_notices_alike_are_read_twice
            """,
        ),
    ],
)
def test_a_contract_loses_no_promise(contract: type, promises: str) -> None:
    assert sorted(name for name in vars(contract) if name.startswith("test_")) == [
        f"test_{promise}" for promise in promises.split()
    ]


def blind(declared: Settlement) -> Settlement:
    return replace(declared, probe=lambda *_, **__: None) if declared.probe else declared


class BlindMailer(FakeMailer):
    """Sends mail, and finds none of it afterwards."""

    def __init__(self, *unknown: str) -> None:
        super().__init__(*unknown)
        self.settlements = {name: blind(each) for name, each in self.settlements.items()}


class BlindContacts(FakeContacts):
    """Writes notes, and finds none of them afterwards."""

    def __init__(self, *emails: str) -> None:
        super().__init__(*emails)
        self.settlements = {name: blind(each) for name, each in self.settlements.items()}


def test_a_contract_notices_a_probe_that_finds_nothing() -> None:
    mailer, contacts = BlindMailer(), BlindContacts("anna.berg@example.com")
    post = FakePost(mailer, known="anna.berg@example.com", unknown="nobody@example.com")
    cards = FakeCards(contacts, known="anna.berg@example.com")
    with pytest.raises(AssertionError):
        MailerContract().test_a_probe_finds_its_own_mail_alone(mailer, post)
    with pytest.raises(AssertionError):
        ContactsContract().test_a_probe_finds_what_was_done(contacts, cards)
