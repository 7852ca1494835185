"""What the contracts see of the system behind a connection, if that system is one of our fakes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta

from orchestrator.capabilities import Asset
from orchestrator.errors import Unavailable
from orchestrator.testing.contacts import FakeContacts
from orchestrator.testing.contracts.mail import ArrivedMail
from orchestrator.testing.fault_script import Scripted
from orchestrator.testing.files import FakeFiles
from orchestrator.testing.mail import FakeMailbox, FakeMailer
from orchestrator.testing.notices import FakeNotifier


def _drop_answer(fake: Scripted) -> None:
    fake.fail_next(Unavailable("the connection was lost"), after_acting=True)


class FakeStore:
    """What ``FileLinksContract`` sees of ``FakeFiles``.

    Args:
        files: The fake.
        present: A file that is there.
        missing: A file that is not.
    """

    def __init__(self, files: FakeFiles, *, present: Asset, missing: Asset) -> None:
        self.files = files
        self.present = present
        self.missing = missing

    @property
    def content(self) -> bytes:
        """What the file holds."""
        return self.files.contents[self.present]

    def download(self, url: str) -> bytes | None:
        """Open a link."""
        return self.files.download(url)


class FakeCards:
    """What ``ContactsContract`` sees of ``FakeContacts``.

    Args:
        contacts: The fake.
        known: The address of a contact in it.
    """

    def __init__(self, contacts: FakeContacts, *, known: str) -> None:
        self.contacts = contacts
        self.known = known

    def tags_of(self, email: str) -> Collection[str]:
        """See the tags on the card."""
        return self.contacts.cards[email.casefold()].tags

    def notes_of(self, email: str) -> Collection[str]:
        """See the notes on the card."""
        return self.contacts.cards[email.casefold()].notes

    def drop_next_answer(self) -> None:
        """Let the next call act, and lose its answer."""
        _drop_answer(self.contacts)


class FakePost:
    """What ``MailerContract`` sees of ``FakeMailer``.

    Args:
        mailer: The fake.
        known: An address that takes mail.
        unknown: An address that the fake was told to refuse.
    """

    def __init__(self, mailer: FakeMailer, *, known: str, unknown: str) -> None:
        self.mailer = mailer
        self.known = known
        self.unknown = unknown

    def arrived(self) -> Sequence[ArrivedMail]:
        """See all mail."""
        return [
            ArrivedMail(mail.to, mail.subject, mail.text, mail.html or "", receipt.reference, mail.in_reply_to or "")
            for mail, receipt in zip(self.mailer.sent, self.mailer.receipts, strict=True)
        ]

    def lose_next_answer(self) -> None:
        """Let the next mail arrive, and lose the answer."""
        _drop_answer(self.mailer)

    def lose_next_request(self) -> None:
        """Lose the next mail."""
        self.mailer.fail_next(Unavailable("the connection was lost"))

    def set_clock_off(self, by: timedelta) -> None:
        """Change nothing: the fake has no clock."""


class FakeLetterbox:
    """What ``MailboxContract`` does to ``FakeMailbox``.

    Args:
        mailbox: The fake.
        max_size_bytes: As the fake was told.
    """

    def __init__(self, mailbox: FakeMailbox, *, max_size_bytes: int) -> None:
        self.mailbox = mailbox
        self.max_size_bytes = max_size_bytes
        self._since = mailbox.since

    def deliver(self, raw: bytes) -> None:
        """Let a mail arrive."""
        self.mailbox.deliver(raw)

    def remove_first(self) -> None:
        """Let a person delete the oldest mail."""
        self.mailbox.remove(f"1:{min(self.mailbox.mails)}")

    def renumber(self) -> None:
        """Let all cursors lose their meaning."""
        self.mailbox.renumber()

    def set_clock_off(self, by: timedelta) -> None:
        """Let mails come so much later, or earlier, by the clock of the mailbox."""
        self.mailbox.since = self._since + by


class FakeReaders:
    """What ``NotifierContract`` sees of ``FakeNotifier``."""

    def __init__(self, notifier: FakeNotifier) -> None:
        self.notifier = notifier

    def told(self) -> Sequence[str]:
        """Return what can be read."""
        return ["\n".join([notice.title, *notice.lines]) for notice in self.notifier.told]

    def drop_next_answer(self) -> None:
        """Let the next call act, and lose its answer."""
        _drop_answer(self.notifier)
