"""Lost download: a customer bought something and lost the link to it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from flows.mails import acknowledge, compose
from flows.products import meant_by
from flows.strangers import leave_to_person
from orchestrator.capabilities import (
    Asset,
    Cases,
    EmailAddress,
    FileLinks,
    Inbox,
    Mailer,
    Option,
    OrderRecords,
    People,
    Private,
    Purchase,
    Question,
    Value,
    is_address,
)
from orchestrator.process import process

VALID_FOR = timedelta(days=3)
AT_MOST = 5
"""A customer who names no product gets the links of so many, the newest."""

ANSWER_IN = timedelta(hours=4)
"""A customer who waits for a person must not wait longer."""

AGAIN = Option(key="again", label="Look again, because the order or the file is there now")
BOUGHT_AS = Option(
    key="bought-as",
    label="They bought with another address: look there, and send the links to that address alone",
    needs_text="the address on the order",
    text_is="address",
)
ANSWER = Option(
    key="answer",
    label="Answer their mail with a text of mine, without links",
    needs_text="the whole mail, from greeting to name",
)
CLOSE = Option(key="close", label="Not a customer, or settled already: close the case and send nothing more")


class LostDownload(Value):
    """What the customer lost."""

    email: Private[EmailAddress] = Field(
        title="Customer's e-mail address",
        description="The address that they bought with. Links go to the address on the order, and nowhere else.",
        examples=["mary@example.com"],
    )
    product: Private[Annotated[str, StringConstraints(max_length=10_000)]] = Field(
        default="",
        title="Product",
        description="What they call the product, as loosely as they like. Empty: everything they bought.",
        examples=["the watercolor course"],
    )
    by_mail: bool = Field(
        default=False,
        title="They wrote a mail and wait for an answer",
        description="If no purchase is found, they are told at once that a person is looking into it.",
    )
    in_reply_to: Private[str] = Field(
        default="",
        title="Message-ID of their mail",
        description="Puts our answer below their mail. The support mailbox fills it in; leave it empty.",
    )
    delivery: str = Field(
        default="",
        title="Their mail",
        description="The id under which it is stored. The support mailbox fills it in; leave it empty.",
    )

    def case_key(self) -> str:
        """Return what the customer's case is known by."""
        return self.email


class Resolution(Value):
    """How the case ended."""

    outcome: Literal["links-sent", "answered-by-hand", "closed-by-hand", "left-to-person"]
    products: tuple[str, ...] = ()


class _Search(Value):
    """What was found for a customer."""

    purchases: tuple[Purchase, ...]
    wanted: tuple[Purchase, ...]
    missing: tuple[Purchase, ...]


@process("lost-download", case_key=LostDownload.case_key)
def lost_download(
    request: LostDownload,
    *,
    orders: OrderRecords,
    files: FileLinks,
    mailer: Mailer,
    people: People,
    inbox: Inbox,
    cases: Cases,
) -> Resolution:
    """Get a customer the download they bought and lost."""
    address, told, otherwise = str(request.email), False, AGAIN.key
    while True:
        found = _search(address, request.product, orders=orders, files=files)
        if found.wanted and not found.missing:
            return _send_links(request, found.wanted, files=files, mailer=mailer)
        if request.by_mail and not told:
            told = True
            has_room = acknowledge(mailer, "looking_into_it", to=request.email, in_reply_to=request.in_reply_to)
            if request.delivery and not has_room and not found.purchases:
                leave_to_person(request.delivery, inbox=inbox, cases=cases)
                return Resolution(outcome="left-to-person")
        decision = people.decide(_question(request, address, found, otherwise))
        otherwise = ""  # orders come in late, so it is looked once more before anybody is late
        match decision.option:
            case ANSWER.key:
                mail = compose(
                    "by_hand", to=request.email, in_reply_to=request.in_reply_to, answer=decision.text.strip()
                )
                mailer.send(mail)
                return Resolution(outcome="answered-by-hand")
            case CLOSE.key:
                return Resolution(outcome="closed-by-hand")
            case BOUGHT_AS.key:
                address = decision.text.strip()


def _search(address: str, product: str, *, orders: OrderRecords, files: FileLinks) -> _Search:
    purchases = orders.purchases_of(address) if is_address(address) else ()
    wanted = what_to_send(purchases, product)
    missing = tuple(p for p in wanted if not files.exists(p.asset))
    return _Search(purchases=purchases, wanted=wanted, missing=missing)


def what_to_send(purchases: Sequence[Purchase], product: str) -> tuple[Purchase, ...]:
    """Choose the purchases whose links a customer gets: what their words mean, else all; never a refunded one."""
    chosen = meant_by(product, purchases) or purchases
    by_asset: dict[Asset, Purchase] = {}
    for purchase in chosen:
        if not purchase.refunded:
            by_asset.setdefault(purchase.asset, purchase)
    return tuple(by_asset.values())[:AT_MOST]


def _send_links(request: LostDownload, wanted: Sequence[Purchase], *, files: FileLinks, mailer: Mailer) -> Resolution:
    """Send links to the addresses on the orders: one mail to each."""
    for address in dict.fromkeys(p.email.casefold() for p in wanted):
        mine = [p for p in wanted if p.email.casefold() == address]
        links = [files.link_to(p.asset, valid_for=VALID_FOR) for p in mine]
        downloads = [{"product": p.product, "url": link.url} for p, link in zip(mine, links, strict=True)]
        mail = compose(
            "fresh_links",
            to=mine[0].email,
            in_reply_to=request.in_reply_to if address == request.email else "",
            downloads=downloads,
            until=min(link.expires_at for link in links),
        )
        mailer.send(mail)
    return Resolution(outcome="links-sent", products=tuple(p.product for p in wanted))


def _question(request: LostDownload, address: str, found: _Search, otherwise: str) -> Question:
    if found.missing:
        title = "A file that a customer bought is missing in the store"
    elif found.purchases:
        title = "A customer asks for a download whose order was refunded"
    else:
        title = "A customer asks for a download, and no purchase is found"
    known = [
        f"The customer writes from: {request.email}",
        f"Looked up: {address}",
        f"They say: {request.product or '(nothing about the product)'}",
        *(f"Bought: {p.product} on {p.bought_on}{' (refunded)' if p.refunded else ''}" for p in found.purchases),
        *(f"Missing: {p.asset.key}" for p in found.missing),
    ]
    return Question(
        title=title,
        known="\n".join(known),
        options=(AGAIN, BOUGHT_AS, ANSWER, CLOSE),
        role="support",
        due_in=ANSWER_IN,
        otherwise=otherwise,
    )
