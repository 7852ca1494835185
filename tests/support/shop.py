"""A shop for process tests: what was bought, and fakes of all systems around the process."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import pytest

from flows.lost_download import LostDownload, Resolution, lost_download
from flows.mails import compose
from orchestrator.capabilities import Asset, Decision, IncomingMail, OutgoingMail, Purchase, Question
from orchestrator.errors import AwaitingDecision
from orchestrator.testing.builtin import FakeCases, FakeInbox
from orchestrator.testing.files import FakeFiles
from orchestrator.testing.mail import FakeMailer
from orchestrator.testing.orders import FakeOrders
from orchestrator.testing.people import FakePeople

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
ANNA = "anna.berg@example.com"
TOM = "tom.okafor@example.org"
DRESS, SWEATER, COURSE, BOOK = (
    "Linen Summer Dress, sewing pattern",
    "Raglan Sweater, sewing pattern",
    "Zippers Without Fear, video course",
    "The Pattern Maker's Handbook, e-book",
)
NEUTRAL = compose("looking_into_it", to=ANNA).model_copy(update={"acknowledges": True})


def asset(product: str) -> Asset:
    return Asset(key=f"shop/{re.sub('[^A-Za-z0-9]+', '-', product)}.zip")


def bought(product: str, day: int = 1, *, email: str = ANNA, refunded: bool = False, order: str = "S-1") -> Purchase:
    return Purchase(
        order=order,
        product=product,
        asset=asset(product),
        email=email,
        bought_on=date(2026, 1, 1) + timedelta(days=day),
        refunded=refunded,
    )


@dataclass
class Shop:
    """The process with fakes around it."""

    orders: FakeOrders
    files: FakeFiles
    people: FakePeople = field(default_factory=FakePeople)
    mailer: FakeMailer = field(default_factory=FakeMailer)
    inbox: FakeInbox = field(default_factory=FakeInbox)

    def __post_init__(self) -> None:
        self.cases = FakeCases(self.inbox)

    def receive(self, email: str) -> str:
        """Let a mail lie in the inbox; return its delivery."""
        delivery = f"d-{len(self.inbox.mails) + 1}"
        self.inbox.mails[delivery] = IncomingMail(
            delivery=delivery, sender=email, subject="s", text="t", message_id="", received_at=NOON
        )
        return delivery

    def serve(
        self, product: str = "", *, email: str = ANNA, by_mail: bool = False, in_reply_to: str = "", delivery: str = ""
    ) -> Resolution:
        request = LostDownload(
            email=email, product=product, by_mail=by_mail, in_reply_to=in_reply_to, delivery=delivery
        )
        return lost_download.body(
            request,
            orders=self.orders,
            files=self.files,
            mailer=self.mailer,
            people=self.people,
            inbox=self.inbox,
            cases=self.cases,
        )

    def asks(self, product: str = "", *, by_mail: bool = False) -> Question:
        """Serve, and return the question that the run waits with."""
        with pytest.raises(AwaitingDecision):
            self.serve(product, by_mail=by_mail)
        return self.people.questions[-1]


def shop(*purchases: Purchase, without: Sequence[str] = (), decisions: Sequence[Decision] = ()) -> Shop:
    there = [asset(product) for product in (DRESS, SWEATER, COURSE, BOOK, *(p.product for p in purchases))]
    missing = [asset(product) for product in without]
    files = FakeFiles(*(each for each in there if each not in missing), now=lambda: NOON)
    return Shop(FakeOrders(*purchases), files, FakePeople(*decisions))


def linked(files: FakeFiles, mail: OutgoingMail) -> list[Asset]:
    """Return what the links in a mail open, in the order of the text."""
    urls = {link.url: link.asset for link in files.links}
    return [urls[line] for line in mail.text.splitlines() if line in urls]
