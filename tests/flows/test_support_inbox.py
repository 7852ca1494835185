from __future__ import annotations

import tomllib
from datetime import UTC, datetime, timedelta

import pytest

from flows.lost_download import LostDownload
from flows.phrasing import phrases
from flows.support_inbox import LONGEST_REQUEST, SupportMail, support_inbox
from flows.wording import MOST_WORDS, asks_for_download
from orchestrator.capabilities import IncomingMail
from orchestrator.errors import NotFound, Rejected
from orchestrator.testing.builtin import FakeCases, FakeInbox
from orchestrator.testing.mail import FakeMailer
from tests.support.paths import TESTS

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
ANNA = "anna.berg@example.com"
LOST = IncomingMail(
    delivery="d-1",
    sender=ANNA,
    subject="I lost my download",
    text="Please send it again.",
    message_id="<lost-1@example.com>",
    received_at=NOON,
)


def another(delivery: str, minutes: int = 0, **changed: str) -> IncomingMail:
    late = {"delivery": delivery, "received_at": NOON + timedelta(minutes=minutes)}
    return LOST.model_copy(update={**late, **changed})


class Shop:
    """The process with fakes around it."""

    def __init__(self, *mails: IncomingMail) -> None:
        self.inbox = FakeInbox(*mails)
        self.cases = FakeCases(self.inbox)
        self.mailer = FakeMailer()

    def triage(self, delivery: str) -> str:
        return support_inbox.body(
            SupportMail(delivery=delivery), inbox=self.inbox, cases=self.cases, mailer=self.mailer
        ).outcome


def triaged(mail: IncomingMail) -> tuple[str, FakeInbox, FakeCases]:
    shop = Shop(mail)
    return shop.triage(mail.delivery), shop.inbox, shop.cases


def test_a_request_opens_a_case_and_starts_the_process_that_serves_it() -> None:
    outcome, inbox, cases = triaged(LOST)
    assert outcome == "started"
    ((case_id, work),) = cases.started
    assert work.process == "lost-download"
    assert LostDownload.model_validate_json(work.request) == LostDownload(
        email=ANNA,
        product="I lost my download\nPlease send it again.",
        by_mail=True,
        in_reply_to="<lost-1@example.com>",
        delivery="d-1",
    )
    assert inbox.settled == {"d-1": f"opened case {case_id} and started lost-download"}
    assert inbox.for_person == {}


def test_a_mail_is_filed_only_after_its_work_was_started() -> None:
    _, inbox, cases = triaged(LOST)
    assert [call.operation for call in inbox.calls] == ["read", "settle"]
    assert [call.operation for call in cases.calls] == ["open_or_join", "start"]


def test_an_impatient_second_mail_joins_the_case() -> None:
    shop = Shop(LOST, another("d-2", 5), another("d-3", 9, subject="WHERE IS MY DOWNLOAD LINK?"))
    assert [shop.triage(delivery) for delivery in ("d-1", "d-2", "d-3")] == ["started", "joined", "joined"]
    assert len(shop.cases.started) == 1
    assert shop.inbox.settled["d-3"] == "joins case c-1, which is being served"


def test_a_mail_written_before_the_answer_joins_even_if_it_is_read_after_it() -> None:
    shop = Shop(LOST, another("d-2", 5))
    shop.triage("d-1")
    shop.cases.answer(ANNA, NOON + timedelta(minutes=6))
    assert shop.triage("d-2") == "joined"


def test_who_writes_again_after_the_answer_meets_a_person() -> None:
    shop = Shop(LOST, another("d-2", 10))
    shop.triage("d-1")
    shop.cases.answer(ANNA, NOON + timedelta(minutes=6))
    assert shop.triage("d-2") == "for-person"
    assert shop.inbox.for_person == {"d-2": "they wrote again after our answer"}
    assert len(shop.cases.started) == 1


def test_who_adds_something_to_a_case_that_waits_for_a_person_is_read_by_that_person() -> None:
    shop = Shop(LOST, another("d-2", 10, text="The link does not work."))
    shop.triage("d-1")
    shop.cases.cases[ANNA].with_person = True
    assert shop.triage("d-2") == "for-person"
    assert shop.inbox.for_person == {"d-2": "their case c-1 waits for a person already"}


def test_two_customers_have_two_cases() -> None:
    shop = Shop(LOST, another("d-2", sender="tom@example.org"))
    assert [shop.triage(delivery) for delivery in ("d-1", "d-2")] == ["started", "started"]
    assert [case_id for case_id, _ in shop.cases.started] == ["c-1", "c-2"]


@pytest.mark.parametrize("reason", ["auto-submitted", "mailing list", "bulk mail", "our own mail", "null return path"])
def test_a_robot_is_not_answered(reason: str) -> None:
    outcome, inbox, cases = triaged(another("d-1", automatic=reason))
    assert (outcome, cases.calls) == ("automatic", [])
    assert inbox.settled == {"d-1": f"not answered: {reason}"}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"automatic": "delivery report"}, "a mail of ours may not have arrived"),
        (
            {"automatic": "our own address"},
            "it comes from an address of ours, as a contact form or a colleague may write",
        ),
        ({"unreadable": "unknown charset"}, "it cannot be read in full: unknown charset"),
        ({"sender": ""}, "it has no sender that can be answered"),
        ({"sender": "all*@example.com"}, "it has no sender that can be answered"),
        ({"subject": "Hello", "text": "Which fabric do I need?"}, "it is not a request that a process serves"),
        ({"subject": "", "text": ""}, "it is not a request that a process serves"),
    ],
)
def test_what_no_rule_decides_waits_for_a_person(changed: dict[str, str], reason: str) -> None:
    outcome, inbox, cases = triaged(LOST.model_copy(update=changed))
    assert (outcome, cases.calls) == ("for-person", [])
    assert (inbox.for_person, inbox.settled) == ({"d-1": reason}, {})


def test_who_waits_for_a_person_is_told_once_that_the_mail_came_in() -> None:
    shop = Shop(another("d-1", subject="Hello", text="Which fabric do I need?"))
    assert shop.triage("d-1") == "for-person"
    (told,) = shop.mailer.sent
    assert (told.to, told.subject, told.in_reply_to) == (ANNA, "We have your mail", LOST.message_id)
    assert told.acknowledges
    assert not [word for word in ("fabric", "Hello\n", ANNA) if word in told.text.replace("Hello,", "")]


def test_who_writes_after_the_answer_is_told_and_who_waits_already_is_not_told_again() -> None:
    shop = Shop(
        LOST, another("d-2", 10), another("d-3", sender="tom@example.org"), another("d-4", sender="tom@example.org")
    )
    for delivery in ("d-1", "d-3"):
        shop.triage(delivery)
    shop.cases.answer(ANNA, NOON + timedelta(minutes=6))
    shop.cases.cases["tom@example.org"].with_person = True
    assert [shop.triage(delivery) for delivery in ("d-2", "d-4")] == ["for-person", "for-person"]
    assert [mail.to for mail in shop.mailer.sent] == [ANNA]


@pytest.mark.parametrize(
    "changed",
    [
        {"automatic": "auto-submitted"},
        {"automatic": "mailing list"},
        {"automatic": "delivery report"},
        {"automatic": "our own address"},
        {"automatic": "our own mail"},
        {"sender": ""},
        {"sender": "all*@example.com"},
    ],
)
def test_no_robot_no_list_and_nobody_unknown_is_told_anything(changed: dict[str, str]) -> None:
    shop = Shop(another("d-1", subject="Hello", text="Which fabric do I need?").model_copy(update=changed))
    shop.triage("d-1")
    assert shop.mailer.calls == []


def test_a_mail_whose_sender_cannot_be_told_is_kept_all_the_same() -> None:
    shop = Shop(another("d-1", subject="Hello", text="Which fabric do I need?"))
    shop.mailer.fail_next(Rejected("no such mailbox"))
    assert shop.triage("d-1") == "for-person"
    assert (list(shop.inbox.for_person), shop.mailer.sent) == (["d-1"], [])


def test_no_note_and_no_reason_repeats_the_mail() -> None:
    for changed in ({}, {"automatic": "bulk mail"}, {"sender": ""}, {"unreadable": "damaged text"}):
        _, inbox, _ = triaged(LOST.model_copy(update=changed))
        for note in (*inbox.settled.values(), *inbox.for_person.values()):
            assert not any(word in note for word in (ANNA, "again", LOST.subject, LOST.message_id))


def test_an_endless_word_is_cut_off() -> None:
    _, _, cases = triaged(another("d-1", text=f"I lost my {'x' * LONGEST_REQUEST} download"))
    request = LostDownload.model_validate_json(cases.started[0][1].request)
    assert len(request.product) == LONGEST_REQUEST


def test_the_end_of_a_long_mail_counts_too() -> None:
    complaint = f"I lost my {'x' * LONGEST_REQUEST} download. You are thieves!"
    assert triaged(another("d-1", text=complaint))[0] == "for-person"


def test_a_mail_that_is_not_stored_is_an_error() -> None:
    with pytest.raises(NotFound):
        Shop().triage("d-1")


ASKS = [
    "I lost my download",
    "I can't find the pattern I bought",
    "I can\u2019t find the pattern I bought",
    "I couldn\u00b4t open the PDF",
    "I cannot find my download anywhere",
    "I could not open the zip file",
    "I cannot\nfind\nmy download",
    "The link you sent has expired",
    "The link doesn\u2019t work",
    "THE LINK DOES NOT WORK ANY MORE!!!",
    "Your link isn't working",
    "My download won't open",
    "I never received the download link",
    "I did not get an email with the link",
    "I haven't received my course yet",
    "I have not yet been able to download the file",
    "Could you send me the download again?",
    "Can you please resend the link?",
    "Could you re-send my purchase?",
    "My computer crashed and with it went the e-book",
    "I accidentally deleted the pdf",
    "My laptop was stolen with all my patterns on it",
    "The zip file is corrupted",
    "I am unable to download the video",
    "I'm having trouble downloading the file",
    "I bought the linen dress pattern in August, and my computer has died since.",
    "Where is my download?",
    "Where can I find my course?",
    "Please send me a new link",
    "I no longer have the e-book",
    "The files are all gone, new hard drive",
    "I seem to have misplaced the pattern",
    "Can't access the course anymore",
]
ASKS_NOT = [
    "Do you have courses for beginners?",
    "Will the course run again next year?",
    "Thanks again for the lovely pattern!",
    "Thank you, the download works perfectly",
    "I lost interest in the course",
    "I want a refund, the download does not work",
    "Please cancel my order of the e-book, I cannot open it",
    "I cannot find the invoice for my purchase",
    "I was charged twice for the video course and can't get an answer",
    "The coupon for the course has expired",
    "Which fabric do I need for the linen dress pattern?",
    "I can't wait to get the next course!",
    "I can\u2019t wait to see the next video",
    "When will the new course be published?",
    "Do you sell any more courses like this?",
    "I lost my keys in your shop",
    "I am lost in lesson 3 of the course",
    "May I use your pattern commercially?",
    "I love the e-book and have told all my friends about it",
    "Please unsubscribe me, I never open your links",
    "Meine Datei ist weg",
    "",
]


MAILS = tomllib.loads((TESTS / "data" / "support_mails.toml").read_text(encoding="utf-8"))
NOT_REQUESTS = [mail for mails in MAILS["not_requests"].values() for mail in mails]
REQUESTS = MAILS["requests"]["plain"]


def asks(mail: str, around: str = "{}") -> bool:
    """Ask of a mail that is written in one line, with more text around it."""
    subject, _, text = mail.rpartition(" | ")
    return asks_for_download(subject, around.format(text))


@pytest.mark.parametrize("sentence", ASKS)
def test_who_lost_a_download_is_understood(sentence: str) -> None:
    assert asks_for_download("", sentence)
    assert asks_for_download(sentence, "")
    assert asks_for_download("Help", f"Dear team,\r\n\r\n{sentence}\r\n\r\nThank you!\r\nAnna")


@pytest.mark.parametrize("sentence", ASKS_NOT)
def test_who_wants_something_else_meets_a_person(sentence: str) -> None:
    assert not asks_for_download("", sentence)
    assert not asks_for_download("A question", f"Dear team,\n\n{sentence}\n\nKind regards\nAnna")


def test_there_are_enough_hard_mails() -> None:
    assert len(set(NOT_REQUESTS)) >= 150
    assert len(MAILS["not_requests"]) >= 12


@pytest.mark.parametrize("mail", NOT_REQUESTS)
def test_a_mail_about_something_else_is_never_served(mail: str) -> None:
    assert not asks(mail)
    assert not asks(mail, "Dear team,\n\n{}\n\nKind regards\nAnna")


@pytest.mark.parametrize("mail", NOT_REQUESTS)
def test_a_request_with_something_else_beside_it_is_never_served(mail: str) -> None:
    assert not asks(mail, "I lost my download. {}")
    assert not asks(mail, "Hi,\n\n{}\n\nPlease send me the link again.\n\nAnna")
    assert not asks_for_download(mail, "I lost my download")


@pytest.mark.parametrize("mail", REQUESTS)
def test_a_plain_request_is_served(mail: str) -> None:
    assert asks(mail)


@pytest.mark.parametrize("mail", REQUESTS)
@pytest.mark.parametrize(
    "more", ["You are thieves!", "I will call the police.", "Do you open on Sundays?", "Bonjour madame."]
)
def test_one_clause_more_and_a_person_reads_it(mail: str, more: str) -> None:
    assert not asks(mail, f"{{}}\n\n{more}")
    assert not asks(mail, f"{more} {{}}")


@pytest.mark.parametrize("mail", REQUESTS)
def test_who_writes_much_meets_a_person(mail: str) -> None:
    assert not asks(mail, "{} " + "Please help me. " * (MOST_WORDS // 3))


@pytest.mark.parametrize("mail", MAILS["requests"]["for_people"])
def test_what_is_not_said_plainly_is_left_to_a_person(mail: str) -> None:
    assert not asks(mail)


def test_a_complaint_starts_nothing_and_is_filed_as_nothing() -> None:
    complaint = "I cannot open my download. If I hear nothing today, I write to the ombudsman."
    outcome, inbox, cases = triaged(another("d-1", subject="My download", text=complaint))
    assert (outcome, cases.calls, inbox.settled) == ("for-person", [], {})


def test_every_list_that_the_phrases_refer_to_is_there() -> None:
    lists = phrases("english")._lists
    said = {each for lines in lists.values() for line in lines for element in line for each in element.alternatives}
    named = {name for each in said for name in ([each] if each.isupper() else filter(str.isupper, each.split()))}
    assert named - set(lists) == {"WORDS", "FIRST NAME", "NUMBER"}


def test_thing_and_loss_may_stand_apart() -> None:
    assert asks_for_download("My video course", "Hi,\n\nit has disappeared.\n\nAnna")


def test_a_name_in_the_last_line_is_a_signature_only_with_capitals() -> None:
    assert asks_for_download("", "I lost my download\nAnna Maria Berg")
    assert not asks_for_download("", "I lost my download\nreally sad")


@pytest.mark.parametrize(
    "word", ["cant it ", "not be ", "send ", "where ", "get ", "'", "lost in ", "have ", "my the "]
)
def test_no_text_makes_the_phrases_slow(word: str) -> None:
    for most in (MOST_WORDS - 1, 10_000):
        started = datetime.now(UTC)
        asks_for_download("link", word * most)
        assert datetime.now(UTC) - started < timedelta(seconds=2)
