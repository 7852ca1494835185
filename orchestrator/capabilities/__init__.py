"""The roles that a process needs and a connector gives: small protocols over frozen values."""

from __future__ import annotations

from orchestrator.capabilities.cases import Cases, CaseTicket, Work
from orchestrator.capabilities.contacts import Contacts
from orchestrator.capabilities.files import Asset, FileLinks, Link
from orchestrator.capabilities.inbox import Inbox, IncomingMail
from orchestrator.capabilities.mail import Mailbox, Mailer, MailPage, OutgoingMail, RawMail
from orchestrator.capabilities.notices import Notice, Notifier
from orchestrator.capabilities.orders import OrderRecords, Purchase
from orchestrator.capabilities.people import Decision, Option, People, Question
from orchestrator.capabilities.values import (
    SEAL,
    UNSEAL,
    WITHOUT_RENDERED,
    EmailAddress,
    Operation,
    Private,
    Receipt,
    Recipient,
    Rendered,
    Value,
    effect,
    is_address,
    operations_of,
    query,
)

HOST_CAPABILITIES = frozenset({"people", "inbox", "cases"})
"""The names of those that the host answers itself, so that they need no connection."""

__all__ = [
    "HOST_CAPABILITIES",
    "SEAL",
    "UNSEAL",
    "WITHOUT_RENDERED",
    "Asset",
    "CaseTicket",
    "Cases",
    "Contacts",
    "Decision",
    "EmailAddress",
    "FileLinks",
    "Inbox",
    "IncomingMail",
    "Link",
    "MailPage",
    "Mailbox",
    "Mailer",
    "Notice",
    "Notifier",
    "Operation",
    "Option",
    "OrderRecords",
    "OutgoingMail",
    "People",
    "Private",
    "Purchase",
    "Question",
    "RawMail",
    "Receipt",
    "Recipient",
    "Rendered",
    "Value",
    "Work",
    "effect",
    "is_address",
    "operations_of",
    "query",
]
