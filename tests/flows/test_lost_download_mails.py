from __future__ import annotations

import subprocess
import sys
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.lost_download import AGAIN, ANSWER, AT_MOST, BOUGHT_AS, CLOSE
from flows.mails import TEMPLATES, compose
from orchestrator.capabilities import Decision, Purchase
from orchestrator.errors import AwaitingDecision
from tests.support.shop import ANNA, BOOK, COURSE, DRESS, NEUTRAL, NOON, SWEATER, TOM, bought, linked, shop

CANARY = "cänary-7f3a <b>{{ 7*7 }}</b>\r\nBcc: everybody@example.com"


def test_no_word_of_the_customer_stands_in_any_mail() -> None:
    answer = [Decision(option=ANSWER.key, text="Sorry.")]
    for place in (shop(bought(DRESS)), shop(decisions=answer)):
        place.serve(CANARY, by_mail=True)
        for mail in place.mailer.sent:
            said = f"{mail.subject} {mail.text} {mail.html}"
            assert not any(word in said for word in ("cänary", "7f3a", "49", "{{", "everybody", "<b>"))


def test_what_the_shop_calls_a_product_is_no_html() -> None:
    place = shop(bought("Dress & <script>alert(1)</script>"))
    place.serve()
    (mail,) = place.mailer.sent
    assert "<script>" not in (mail.html or "")
    assert "Dress &amp; &lt;script&gt;alert(1)&lt;/script&gt;</a>" in (mail.html or "")
    assert "Dress & <script>alert(1)</script>" in mail.text


def test_a_signed_link_survives_both_forms_of_the_mail() -> None:
    url = 'https://files.test/a?X-Amz-Expires=1&X-Amz-Signature=0"f'
    mail = compose("fresh_links", to=ANNA, downloads=[{"product": "Dress", "url": url}], until=NOON)
    assert url in mail.text
    assert '<a href="https://files.test/a?X-Amz-Expires=1&amp;X-Amz-Signature=0&#34;f">' in (mail.html or "")


def test_each_mail_has_a_subject_of_one_line_and_both_forms() -> None:
    names = {path.name.partition(".")[0] for path in TEMPLATES.glob("*.j2")}
    assert names == {"fresh_links", "looking_into_it", "by_hand", "received"}
    words: dict[str, Any] = {
        "downloads": [{"product": "Dress\nBcc: x", "url": "https://x"}],
        "until": NOON,
        "answer": "a\n\nb",
    }
    for name in names:
        mail = compose(name, to=ANNA, **words)
        assert mail.subject.strip()
        assert mail.subject.isprintable()
        assert mail.text.endswith("\n")
        assert mail.html


STRANGER = "stranger@example.net"
ADDRESSES = [ANNA, ANNA.title(), TOM, "mia.winter@example.com"]
PRODUCTS = [DRESS, SWEATER, COURSE, BOOK, "<b>Dress</b>"]
PURCHASES = st.lists(
    st.builds(
        bought,
        st.sampled_from(PRODUCTS),
        st.integers(0, 300),
        email=st.sampled_from(ADDRESSES),
        refunded=st.booleans(),
    ),
    max_size=8,
)
DECISIONS = st.lists(
    st.one_of(
        st.builds(Decision, option=st.sampled_from([AGAIN.key, CLOSE.key])),
        st.builds(Decision, option=st.just(BOUGHT_AS.key), text=st.sampled_from([*ADDRESSES, "nobody@example.net"])),
        st.builds(Decision, option=st.just(ANSWER.key), text=st.sampled_from([*ADDRESSES, "x", "https://evil.test/x"])),
    ),
    max_size=4,
)
SAID = st.one_of(st.sampled_from([*PRODUCTS, "", "everything", f"send it to {TOM}"]), st.text(max_size=60))


@settings(deadline=None, max_examples=200)
@given(PURCHASES, SAID, st.sampled_from([ANNA, STRANGER]), DECISIONS, st.sets(st.sampled_from(PRODUCTS), max_size=1))
def test_a_link_only_ever_goes_to_an_address_on_an_order_that_was_not_refunded(
    purchases: list[Purchase], said: str, writer: str, decisions: list[Decision], without: set[str]
) -> None:
    place = shop(*purchases, without=sorted(without), decisions=decisions)
    try:
        place.serve(said, email=writer, by_mail=True)
    except AwaitingDecision:
        assert place.people.questions
    for mail in place.mailer.sent:
        owned = {p.asset for p in purchases if p.email.casefold() == mail.to.casefold() and not p.refunded}
        found = linked(place.files, mail)
        assert set(found) <= owned
        assert len(found) == len(set(found)) <= AT_MOST
        assert found or "https://files.test" not in f"{mail.text}{mail.html}"
        assert found or mail.to == writer


@settings(deadline=None, max_examples=50)
@given(PURCHASES, SAID)
def test_who_gets_no_link_gets_the_same_bytes(purchases: list[Purchase], said: str) -> None:
    place = shop(*purchases)
    try:
        place.serve(said, by_mail=True)
    except AwaitingDecision:
        assert [mail.model_dump_json() for mail in place.mailer.sent] == [NEUTRAL.model_dump_json()]


ALONE = """
import sys
def refuse_network(event, arguments):
    if event in {"socket.connect", "socket.bind", "socket.getaddrinfo"}:
        sys.exit(event)
sys.addaudithook(refuse_network)
from datetime import date
import flows
from orchestrator.capabilities import Asset, Purchase
from orchestrator.testing.builtin import FakeCases, FakeInbox
from orchestrator.testing.files import FakeFiles
from orchestrator.testing.mail import FakeMailer
from orchestrator.testing.orders import FakeOrders
from orchestrator.testing.people import FakePeople
dress = Asset(key="dress.zip")
bought = Purchase(order="S-1", product="Dress", asset=dress, email="anna@example.com", bought_on=date(2026, 1, 1))
mailer = FakeMailer()
found = flows.lost_download.body(
    flows.lost_download.definition.request(email="anna@example.com"),
    orders=FakeOrders(bought), files=FakeFiles(dress), mailer=mailer, people=FakePeople(),
    inbox=FakeInbox(), cases=FakeCases(FakeInbox()),
)
assert found.outcome == "links-sent" and len(mailer.sent) == 1
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_a_process_and_its_fakes_need_no_database_no_vendor_and_no_network() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    loaded = set(done.stdout.split())
    assert {"flows", "prefect"} <= loaded
    vendors = {"boto3", "botocore", "imap_tools", "googleapiclient", "dropbox", "smtplib", "imaplib"}
    assert not loaded & (
        vendors | {"sqlalchemy", "alembic", "psycopg", "orchestrator_connectors", "moto", "aiosmtpd", "pymap"}
    )
