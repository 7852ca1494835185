"""Stand-ins for the system that sends mail and for the one that takes it in."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from threading import Condition

from orchestrator.capabilities import MailPage, OutgoingMail, RawMail, Receipt
from orchestrator.errors import Rejected
from orchestrator.plugins import DoubtClass, Settlement
from orchestrator.testing.fault_script import Scripted

_ADDRESS = re.compile(r"[^\s@<>,;:\"]+@[^\s@<>,;:\"]+")
_MESSAGE_ID = re.compile(r"<[!-;=?A-~]+@[!-;=?A-~]+>")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class FakeMailer(Scripted):
    """Mail that was sent, in order, as its recipients see it; each can be looked up by its effect.

    Args:
        unknown: Addresses that the system refuses.
    """

    def __init__(self, *unknown: str) -> None:
        super().__init__()
        self.sent: list[OutgoingMail] = []
        self.receipts: list[Receipt] = []
        self._unknown = {address.casefold() for address in unknown}
        self._effects: dict[str, Receipt] = {}
        self.settlements = {"send": Settlement(doubt=DoubtClass.PROBE, probe=self._look_for)}

    def send(self, mail: OutgoingMail, *, effect_id: str | None = None) -> Receipt:
        """Send the mail."""
        with self._call("send", mail=mail):
            if not _ADDRESS.fullmatch(mail.to) or mail.to.casefold() in self._unknown:
                raise Rejected("the recipient is not an address that takes mail")
            receipt = Receipt(reference=f"<{effect_id or f'mail-{len(self.sent) + 1}'}@mailer.test>")
            self.sent.append(_as_seen(mail))
            self.receipts.append(receipt)
            if effect_id is not None:
                self._effects[effect_id] = receipt
            return receipt

    def check(self) -> str:
        """Count what was sent."""
        return f"a fake that has sent {len(self.sent)} mails"

    def _look_for(self, effect_id: str, **_arguments: object) -> Receipt | None:
        return self._effects.get(effect_id)


def _as_seen(mail: OutgoingMail) -> OutgoingMail:
    answered = mail.in_reply_to if _MESSAGE_ID.fullmatch(mail.in_reply_to or "") else None
    return mail.model_copy(update={"subject": _CONTROLS.sub(" ", mail.subject), "in_reply_to": answered})


class FakeMailbox(Scripted):
    """Mails in the order of their arrival, one a minute.

    Args:
        max_size_bytes: Of a larger mail only the headers are shown.
        since: When the first mail arrives.
    """

    def __init__(
        self, *, max_size_bytes: int = 25 * 1024 * 1024, since: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    ) -> None:
        super().__init__()
        self.mails: dict[int, bytes] = {}
        self._max_size_bytes = max_size_bytes
        self.since = since
        self._generation = 1
        self._last = 0
        self.comes = Condition()
        """Notified when a mail arrives, or a watch is stopped."""

    def deliver(self, raw: bytes) -> str:
        """Let a mail arrive.

        Returns:
            Its key.
        """
        with self.comes:
            self._last += 1
            self.mails[self._last] = raw
            self.comes.notify_all()
        return self._name(self._last)

    def remove(self, key: str) -> None:
        """Let a person delete a mail."""
        del self.mails[int(key.rpartition(":")[2])]

    def renumber(self) -> None:
        """Let all cursors and keys lose their meaning, as after a restore from a backup."""
        self._generation += 1
        self.mails = dict(enumerate(self.mails.values(), start=1))
        self._last = len(self.mails)

    def position(self) -> str:
        """Return the cursor behind the last mail."""
        with self._call("position"):
            return self._name(self._last)

    def new_mail(self, cursor: str | None, *, limit: int) -> MailPage:
        """Read at most so many mails behind the cursor."""
        with self._call("new_mail", cursor=cursor, limit=limit):
            if limit < 1:
                raise Rejected("limit must be at least 1")
            last = self._number(cursor)
            page = [number for number in self.mails if number > last][:limit]
            return MailPage(mails=tuple(map(self._mail, page)), cursor=self._name(max(page, default=last)))

    def watch(self) -> FakeMailWatch:
        """Begin to watch."""
        return FakeMailWatch(self)

    def check(self) -> str:
        """Count the mails."""
        return f"a fake with {len(self.mails)} mails"

    def _mail(self, number: int) -> RawMail:
        raw = self.mails[number]
        truncated = len(raw) > self._max_size_bytes
        if truncated:
            raw = raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        received_at = self.since + timedelta(minutes=number - 1)
        return RawMail(key=self._name(number), raw=raw, received_at=received_at, truncated=truncated)

    def _name(self, number: int) -> str:
        return f"{self._generation}:{number}"

    def _number(self, cursor: str | None) -> int:
        generation, _, number = (cursor or "").partition(":")
        return int(number) if generation == str(self._generation) and number.isdecimal() else 0


class FakeMailWatch:
    """A fake mailbox, watched.

    Args:
        mailbox: The mailbox.
    """

    def __init__(self, mailbox: FakeMailbox) -> None:
        self.closed = False
        self._mailbox = mailbox
        self._stopped = False
        self._seen: set[int] | None = None

    def position(self) -> str:
        """Return the cursor behind the last mail."""
        self._seen = set(self._mailbox.mails)
        return self._mailbox.position()

    def new_mail(self, cursor: str | None, *, limit: int) -> MailPage:
        """Read at most so many mails behind the cursor."""
        self._seen = set(self._mailbox.mails)
        return self._mailbox.new_mail(cursor, limit=limit)

    def wait(self, timeout: timedelta) -> bool:
        """Wait until mail comes."""
        comes = self._mailbox.comes
        with comes:
            comes.wait_for(lambda: self._stopped or self._news(), timeout.total_seconds())
            return not self._stopped and self._news()

    def stop(self) -> None:
        """End the wait that is under way, and every later one, at once."""
        with self._mailbox.comes:
            self._stopped = True
            self._mailbox.comes.notify_all()

    def close(self) -> None:
        """End the conversation."""
        self.closed = True

    def _news(self) -> bool:
        return self._seen is not None and not self._mailbox.mails.keys() <= self._seen
