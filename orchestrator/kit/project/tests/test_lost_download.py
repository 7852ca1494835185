"""What customers get, with fakes of all systems around the process: no database, no server, no patching."""

from __future__ import annotations

from datetime import date

import pytest

from flows.lost_download import LostDownload, Resolution, lost_download
from orchestrator.capabilities import Asset, Purchase
from orchestrator.errors import AwaitingDecision
from orchestrator.testing.builtin import FakeCases, FakeInbox
from orchestrator.testing.files import FakeFiles
from orchestrator.testing.mail import FakeMailer
from orchestrator.testing.orders import FakeOrders
from orchestrator.testing.people import FakePeople

ANNA = "anna.berg@example.com"
DRESS = Asset(key="patterns/linen-summer-dress.txt")
BOUGHT = Purchase(order="S-1001", product="Linen Summer Dress", asset=DRESS, email=ANNA, bought_on=date(2026, 8, 14))


def serve(mailer: FakeMailer, *purchases: Purchase) -> Resolution:
    return lost_download.body(
        LostDownload(email=ANNA),
        orders=FakeOrders(*purchases),
        files=FakeFiles(DRESS),
        mailer=mailer,
        people=FakePeople(),
        inbox=FakeInbox(),
        cases=FakeCases(FakeInbox()),
    )


def test_a_customer_gets_a_fresh_link_to_what_they_bought() -> None:
    mailer = FakeMailer()
    assert serve(mailer, BOUGHT) == Resolution(outcome="links-sent", products=("Linen Summer Dress",))
    (mail,) = mailer.sent
    assert (mail.to, mail.subject) == (ANNA, "Your download")


def test_a_stranger_gets_nothing_and_a_person_is_asked() -> None:
    mailer = FakeMailer()
    with pytest.raises(AwaitingDecision):
        serve(mailer)
    assert mailer.sent == []
