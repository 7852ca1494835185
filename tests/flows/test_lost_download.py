from __future__ import annotations

import textwrap
from collections.abc import Callable
from datetime import timedelta

import pytest
from pydantic import ValidationError

from flows.lost_download import AGAIN, ANSWER, AT_MOST, BOUGHT_AS, CLOSE, LostDownload, Resolution
from flows.products import meant_by
from flows.strangers import Strangers, strangers
from orchestrator.capabilities import Decision, OutgoingMail, Purchase, Question
from orchestrator.errors import AwaitingDecision, Rejected
from orchestrator.testing.files import FakeFiles
from orchestrator.testing.orders import FakeOrders
from orchestrator.testing.people import FakePeople
from tests.support.shop import ANNA, BOOK, COURSE, DRESS, NEUTRAL, NOON, SWEATER, TOM, asset, bought, linked, shop


def test_a_customer_who_bought_one_thing_gets_its_link_below_their_mail() -> None:
    place = shop(bought(DRESS))
    found = place.serve("I lost my download", by_mail=True, in_reply_to="<lost-1@example.com>")
    assert found == Resolution(outcome="links-sent", products=(DRESS,))
    (link,) = place.files.links
    assert link.expires_at == NOON + timedelta(days=3)
    (mail,) = place.mailer.sent
    assert (mail.to, mail.subject, mail.in_reply_to) == (ANNA, "Your download", "<lost-1@example.com>")
    assert mail.text == textwrap.dedent(f"""\
        Hello,

        here is your download:

        {DRESS}
        {link.url}

        This link works until Wednesday, 04 November 2026, 12:00 UTC.
        Save the file where you find it again, and please do not pass the link on.

        If something does not work, just answer this mail: a person reads it.

        Kind regards
        Your support team
        """)
    assert f'<a href="{link.url}">{DRESS}</a>' in (mail.html or "")
    assert place.people.questions == []


def test_several_links_stand_in_one_mail() -> None:
    place = shop(bought(DRESS, 1), bought(COURSE, 2))
    place.serve()
    (mail,) = place.mailer.sent
    assert linked(place.files, mail) == [asset(COURSE), asset(DRESS)]
    assert "here are your downloads:" in mail.text
    assert "These links work until" in mail.text


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("the summer dress", [DRESS]),
        ("I can't find my ZIPPERS thing", [COURSE]),
        ("the video course about zippers and also the raglan one", [COURSE, SWEATER]),
        ("the e-book", [BOOK]),
        ("my ebook", [BOOK]),
        ("the pattern makers handbook", [BOOK]),
        ("that sewing pattern", [COURSE, BOOK, SWEATER, DRESS]),
        ("an e-mail with a link, it's lost, I don't have it", [COURSE, BOOK, SWEATER, DRESS]),
        ("everything", [COURSE, BOOK, SWEATER, DRESS]),
        ("", [COURSE, BOOK, SWEATER, DRESS]),
    ],
)
def test_loose_words_choose_among_what_was_bought(said: str, meant: list[str]) -> None:
    place = shop(bought(DRESS, 1), bought(SWEATER, 2), bought(BOOK, 3), bought(COURSE, 4))
    assert list(place.serve(said).products) == meant
    (mail,) = place.mailer.sent
    assert linked(place.files, mail) == [asset(product) for product in meant]


def test_words_never_point_at_what_somebody_else_bought() -> None:
    assert meant_by("the handbook", [bought(DRESS)]) == ()


def test_who_names_nothing_gets_the_newest_up_to_the_limit() -> None:
    place = shop(*(bought(f"Pattern number {number}", number) for number in range(9)))
    assert place.serve().products == tuple(f"Pattern number {number}" for number in (8, 7, 6, 5, 4))
    assert len(place.files.links) == AT_MOST


def test_what_was_bought_twice_is_sent_once_and_counts_as_new() -> None:
    others = [bought(f"Pattern number {number}", number) for number in range(10, 15)]
    place = shop(bought(DRESS, 1, order="S-1"), *others, bought(DRESS, 20, order="S-2"))
    assert place.serve().products == (DRESS, *(f"Pattern number {number}" for number in (14, 13, 12, 11)))


def test_a_refunded_purchase_gets_no_link() -> None:
    place = shop(bought(DRESS), bought(COURSE, refunded=True))
    assert place.serve("I lost everything").products == (DRESS,)
    assert [link.asset for link in place.files.links] == [asset(DRESS)]


def test_what_was_refunded_and_bought_again_gets_its_link() -> None:
    place = shop(bought(DRESS, 1, refunded=True), bought(DRESS, 2))
    assert place.serve("the dress").products == (DRESS,)


def test_who_asks_for_a_refunded_thing_beside_another_one_meets_a_person() -> None:
    place = shop(bought(DRESS), bought(COURSE, refunded=True))
    asked = place.asks("the zippers course")
    assert asked.title == "A customer asks for a download whose order was refunded"
    assert f"Bought: {COURSE} on 2026-01-02 (refunded)" in asked.known
    assert (place.mailer.sent, place.files.links) == ([], [])


def test_who_bought_nothing_is_told_at_once_that_a_person_looks_into_it() -> None:
    place = shop(bought(DRESS, email=TOM))
    asked = place.asks("I lost the dress pattern", by_mail=True)
    assert place.mailer.sent == [NEUTRAL]
    assert asked == Question(
        title="A customer asks for a download, and no purchase is found",
        known=f"The customer writes from: {ANNA}\nLooked up: {ANNA}\nThey say: I lost the dress pattern",
        options=(AGAIN, BOUGHT_AS, ANSWER, CLOSE),
        role="support",
        due_in=timedelta(hours=4),
        otherwise="again",
    )


def test_strangers_whom_nobody_can_tell_are_left_to_a_person_with_one_question_for_all() -> None:
    place = shop(bought(DRESS))
    for number in range(3):
        place.mailer.fail_next(Rejected("5 automatic answers went out in an hour"))
        sender = f"stranger{number}@example.com"
        found = place.serve("my dress", email=sender, by_mail=True, delivery=place.receive(sender))
        assert found == Resolution(outcome="left-to-person")
    assert (place.mailer.sent, place.people.questions) == ([], [])
    assert list(place.inbox.for_person) == ["d-1", "d-2", "d-3"]
    assert [work.process for _, work in place.cases.started] == ["strangers"]
    with pytest.raises(AwaitingDecision):
        strangers.body(Strangers(), people=place.people)
    (asked,) = place.people.questions
    assert "orchestrator inbox --state for-person" in asked.known
    strangers.body(Strangers(), people=FakePeople(Decision(option="done")))


@pytest.mark.parametrize("purchase", [bought(DRESS, refunded=True), bought("A dress that is not there")])
def test_a_customer_with_an_order_keeps_a_question_of_their_own_whatever_strangers_used_up(purchase: Purchase) -> None:
    place = shop(purchase, without=["A dress that is not there"])
    place.mailer.fail_next(Rejected("5 automatic answers went out in an hour"))
    with pytest.raises(AwaitingDecision):
        place.serve(by_mail=True, delivery=place.receive(ANNA))
    assert len(place.people.questions) == 1
    assert (place.inbox.for_person, place.cases.started) == ({}, [])


def test_the_neutral_mail_goes_out_once_however_often_somebody_looks_again() -> None:
    place = shop(decisions=[Decision(option=AGAIN.key)] * 3)
    place.asks(by_mail=True)
    assert len(place.people.questions) == 4
    assert place.mailer.sent == [NEUTRAL]


def test_it_is_looked_again_without_anybody_once_and_then_a_person_is_late() -> None:
    place = shop(decisions=[Decision(option=AGAIN.key)] * 2)
    place.asks()
    assert [question.otherwise for question in place.people.questions] == [AGAIN.key, "", ""]


def test_the_form_alone_tells_nobody_anything() -> None:
    place = shop()
    place.asks()
    assert place.mailer.sent == []


def test_the_title_of_a_question_names_nobody() -> None:
    for place in (shop(), shop(bought(DRESS, refunded=True)), shop(bought(DRESS), without=[DRESS])):
        assert not {ANNA, DRESS, "@"} & set(place.asks(DRESS).title.split())


def test_the_neutral_mail_is_the_same_to_the_byte_whatever_the_reason() -> None:
    places = [shop(), shop(bought(DRESS, refunded=True)), shop(bought(DRESS), without=[DRESS])]
    for place in places:
        place.asks("the linen dress", by_mail=True)
    assert {mail.model_dump_json() for place in places for mail in place.mailer.sent} == {NEUTRAL.model_dump_json()}
    assert [len(place.mailer.sent) for place in places] == [1, 1, 1]


class Clerk(FakePeople):
    """Fixes something, and lets the process look again."""

    def __init__(self, fix: Callable[[], None]) -> None:
        super().__init__(Decision(option=AGAIN.key))
        self._fix = fix

    def decide(self, question: Question) -> Decision:
        self._fix()
        return super().decide(question)


def test_looking_again_finds_the_order_that_is_there_now() -> None:
    place = shop()
    place.people = Clerk(lambda: place.orders.purchases.append(bought(DRESS)))
    assert place.serve(by_mail=True).outcome == "links-sent"
    assert [mail.to for mail in place.mailer.sent] == [ANNA, ANNA]


def test_a_missing_file_is_asked_about_and_sent_once_it_is_there() -> None:
    place = shop(bought(DRESS, 1), bought(COURSE, 2), without=[DRESS])
    place.people = Clerk(lambda: place.files.contents.update({asset(DRESS): b"here"}))
    assert place.serve().products == (COURSE, DRESS)
    assert place.people.questions[0].title == "A file that a customer bought is missing in the store"
    assert f"Missing: {asset(DRESS).key}" in place.people.questions[0].known


def test_nothing_is_sent_while_a_file_is_missing() -> None:
    place = shop(bought(DRESS, 1), bought(COURSE, 2), without=[DRESS])
    place.asks()
    assert (place.files.links, place.mailer.sent) == ([], [])


@pytest.mark.parametrize("written", [TOM, f"  {TOM.upper()}\n"])
def test_bought_with_another_address_sends_the_links_there_alone(written: str) -> None:
    place = shop(bought(DRESS, email=TOM), decisions=[Decision(option=BOUGHT_AS.key, text=written)])
    found = place.serve("my dress pattern", by_mail=True, in_reply_to="<lost-1@example.com>")
    assert found == Resolution(outcome="links-sent", products=(DRESS,))
    neutral, links = place.mailer.sent
    assert (neutral.to, linked(place.files, neutral)) == (ANNA, [])
    assert (links.to, linked(place.files, links), links.in_reply_to) == (TOM, [asset(DRESS)], None)
    assert ANNA not in links.model_dump_json()


def test_another_address_without_purchases_is_asked_about_again() -> None:
    decisions = [Decision(option=BOUGHT_AS.key, text="nobody@example.net")]
    place = shop(bought(DRESS, email=TOM), decisions=decisions)
    asked = place.asks()
    assert "Looked up: nobody@example.net" in asked.known
    assert asked.title == "A customer asks for a download, and no purchase is found"
    assert place.mailer.sent == []


@pytest.mark.parametrize("written", ["no address", "*@example.org", f"Tom <{TOM}>", f"{TOM},{ANNA}"])
def test_what_is_no_address_is_no_answer_to_where_they_bought(written: str) -> None:
    unfit = shop().asks().unfit(Decision(option=BOUGHT_AS.key, text=written))
    assert unfit == "option bought-as: the text is no e-mail address; write one address, such as mary@example.com"


def test_who_closes_a_case_cannot_believe_that_a_text_is_sent() -> None:
    unfit = shop().asks().unfit(Decision(option=CLOSE.key, text="Dear Anna, we are sorry"))
    assert unfit == "option close sends nobody a text: leave the text out, or choose another one"


def test_the_description_of_an_answer_is_no_answer() -> None:
    unfit = shop().asks().unfit(Decision(option=ANSWER.key, text=f"({ANSWER.needs_text})"))
    assert unfit.startswith("option answer: the text is the description of what to write")


def test_an_answer_by_hand_is_sent_as_it_was_written() -> None:
    answer = "Dear Anna,\nyour order <S-1> & the course\n\nBye\n"
    place = shop(decisions=[Decision(option=ANSWER.key, text=answer)])
    assert place.serve("anything", in_reply_to="<lost-1@example.com>") == Resolution(outcome="answered-by-hand")
    assert place.mailer.sent == [
        OutgoingMail(
            to=ANNA,
            subject="About your download",
            text=answer,
            html="<p>Dear Anna,<br>your order &lt;S-1&gt; &amp; the course</p>\n<p>Bye</p>\n",
            in_reply_to="<lost-1@example.com>",
        )
    ]


def test_a_case_can_be_closed_without_a_mail() -> None:
    place = shop(decisions=[Decision(option=CLOSE.key)])
    assert place.serve() == Resolution(outcome="closed-by-hand")
    assert place.mailer.sent == []


class LinkedAccounts(FakeOrders):
    """Knows that several addresses are one customer."""

    def purchases_of(self, email: str) -> tuple[Purchase, ...]:
        return tuple(self.purchases)


def test_each_address_on_the_orders_gets_a_mail_of_its_own() -> None:
    place = shop(bought(DRESS), bought(COURSE, email=TOM), bought(SWEATER))
    place.orders = LinkedAccounts(*place.orders.purchases)
    place.serve(in_reply_to="<lost-1@example.com>")
    assert [(mail.to, linked(place.files, mail), mail.in_reply_to) for mail in place.mailer.sent] == [
        (ANNA, [asset(DRESS), asset(SWEATER)], "<lost-1@example.com>"),
        (TOM, [asset(COURSE)], None),
    ]


def test_one_address_in_two_spellings_gets_one_mail() -> None:
    place = shop(bought(DRESS, 1, email="Anna.Berg@Example.com"), bought(COURSE, 2))
    place.serve(in_reply_to="<lost-1@example.com>")
    (mail,) = place.mailer.sent
    assert linked(place.files, mail) == [asset(COURSE), asset(DRESS)]
    assert mail.in_reply_to == "<lost-1@example.com>"


def test_the_mail_names_the_end_of_the_link_that_ends_first() -> None:
    place = shop(bought(DRESS))
    place.files = FakeFiles(asset(DRESS), longest=timedelta(hours=4), now=lambda: NOON)
    place.serve()
    assert "works until Sunday, 01 November 2026, 16:00 UTC" in place.mailer.sent[0].text


@pytest.mark.parametrize(
    "email", ["", "anna", "anna@", "*@example.com", "a b@example.com", "a@b, c@d", f"{'a' * 250}@b.de"]
)
def test_the_form_takes_one_plain_address(email: str) -> None:
    with pytest.raises(ValidationError) as caught:
        LostDownload(email=email)
    assert email not in str(caught.value) or not email


def test_the_form_explains_each_of_its_fields() -> None:
    for field_ in LostDownload.model_json_schema()["properties"].values():
        assert field_["title"]
        assert field_["description"]
    assert LostDownload(email=f" {ANNA.upper()} ").email == ANNA
