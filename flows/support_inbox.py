"""Support inbox: every mail goes to whom it belongs, and none is lost."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flows.lost_download import LostDownload, lost_download
from flows.mails import acknowledge
from flows.wording import asks_for_download
from orchestrator.capabilities import Cases, Inbox, IncomingMail, Mailer, Value, is_address
from orchestrator.process import process

LONGEST_REQUEST = 10_000
"""Characters of a mail that may name the product."""
A_PERSON_LOOKS = {
    "delivery report": "a mail of ours may not have arrived",
    "our own address": "it comes from an address of ours, as a contact form or a colleague may write",
}
"""Automatic mail that no machine answers, but that somebody must see."""


class SupportMail(Value):
    """One mail to the support address."""

    delivery: str = Field(
        title="Delivery",
        description="The id of a stored mail, as `orchestrator inbox` lists it.",
        examples=["d-0123456789abcdef01234567"],
    )


class Triage(Value):
    """What became of the mail."""

    outcome: Literal["automatic", "for-person", "joined", "started"]


@process("support-inbox")
def support_inbox(request: SupportMail, *, inbox: Inbox, cases: Cases, mailer: Mailer) -> Triage:
    """Give every mail to the support address to whom it belongs."""
    mail = inbox.read(request.delivery)
    if mail.automatic and mail.automatic not in A_PERSON_LOOKS:
        inbox.settle(mail.delivery, note=f"not answered: {mail.automatic}")
        return Triage(outcome="automatic")
    reason = why_a_person(mail)
    if not reason:
        return _serve(mail, inbox=inbox, cases=cases, mailer=mailer)
    return _keep(mail, reason, inbox=inbox, mailer=mailer)


def why_a_person(mail: IncomingMail) -> str:
    """Say why a person must read this mail; empty if a process can serve it."""
    if mail.automatic:
        return A_PERSON_LOOKS[mail.automatic]
    if mail.unreadable:
        return f"it cannot be read in full: {mail.unreadable}"
    if not is_address(mail.sender):
        return "it has no sender that can be answered"
    if not asks_for_download(mail.subject, mail.text):
        return "it is not a request that a process serves"
    return ""


def _keep(mail: IncomingMail, reason: str, *, inbox: Inbox, mailer: Mailer) -> Triage:
    """Keep a mail for a person, and tell its sender, unless a robot wrote it or nobody knows who did."""
    inbox.keep_for_person(mail.delivery, reason=reason)
    if not mail.automatic and is_address(mail.sender):
        acknowledge(mailer, "received", to=mail.sender, in_reply_to=mail.message_id)
    return Triage(outcome="for-person")


def _said(mail: IncomingMail) -> str:
    return f"{mail.subject}\n{mail.text}"[:LONGEST_REQUEST]


def _serve(mail: IncomingMail, *, inbox: Inbox, cases: Cases, mailer: Mailer) -> Triage:
    case = cases.open_or_join(mail.sender, delivery=mail.delivery)
    match case.state:
        case "answered":
            return _keep(mail, "they wrote again after our answer", inbox=inbox, mailer=mailer)
        case "with-person":  # they were told already
            inbox.keep_for_person(mail.delivery, reason=f"their case {case.case_id} waits for a person already")
            return Triage(outcome="for-person")
        case "joined":
            inbox.settle(mail.delivery, note=f"joins case {case.case_id}, which is being served")
            return Triage(outcome="joined")
    work = lost_download.work(
        LostDownload(
            email=mail.sender,
            product=_said(mail),
            by_mail=True,
            in_reply_to=mail.message_id,
            delivery=mail.delivery,
        )
    )
    cases.start(work, case_id=case.case_id)
    inbox.settle(mail.delivery, note=f"opened case {case.case_id} and started {work.process}")
    return Triage(outcome="started")
