"""The capabilities that come with the orchestrator, brought by the hook that any other plug-in has."""

from __future__ import annotations

from orchestrator.capabilities import (
    Cases,
    Contacts,
    FileLinks,
    Inbox,
    Mailbox,
    Mailer,
    Notifier,
    OrderRecords,
    People,
)
from orchestrator.plugins.capability import Capabilities, Capability
from orchestrator.plugins.hooks import RegisterCapability, hookimpl


def _ours(name: str, protocol: type, fake: str, contract: str) -> Capability:
    testing = "orchestrator.testing"
    return Capability(
        name=name, protocol=protocol, fake=f"{testing}.{fake}", contract=f"{testing}.contracts.{contract}"
    )


STANDARD = Capabilities(
    (
        _ours("order_records", OrderRecords, "orders:FakeOrders", "orders:OrderRecordsContract"),
        _ours("file_links", FileLinks, "files:FakeFiles", "files:FileLinksContract"),
        _ours("mailer", Mailer, "mail:FakeMailer", "mail:MailerContract"),
        _ours("mailbox", Mailbox, "mail:FakeMailbox", "mailbox:MailboxContract"),
        _ours("contacts", Contacts, "contacts:FakeContacts", "contacts:ContactsContract"),
        _ours("notifier", Notifier, "notices:FakeNotifier", "notices:NotifierContract"),
        _ours("people", People, "people:FakePeople", "people:PeopleContract"),
        _ours("inbox", Inbox, "builtin:FakeInbox", "builtin:InboxAndCasesContract"),
        _ours("cases", Cases, "builtin:FakeCases", "builtin:InboxAndCasesContract"),
    )
)


@hookimpl
def register_capabilities(register: RegisterCapability) -> None:
    """Offer them."""
    for capability in STANDARD.values():
        register(capability)
