"""Stand-ins for what the host answers itself: stored mail, and the customers' cases."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Literal

from orchestrator.capabilities import CaseTicket, IncomingMail, Receipt, Work
from orchestrator.errors import NotFound, Rejected
from orchestrator.plugins import DoubtClass, Settlement
from orchestrator.testing.fault_script import Scripted


class FakeInbox(Scripted):
    """Stored mails, and where each was filed.

    Args:
        mails: The mails, read already.
    """

    settlements: ClassVar = dict.fromkeys(("settle", "keep_for_person"), Settlement(doubt=DoubtClass.NATURAL))

    def __init__(self, *mails: IncomingMail) -> None:
        super().__init__()
        self.mails = {mail.delivery: mail for mail in mails}
        self.settled: dict[str, str] = {}
        """Delivery to note."""
        self.for_person: dict[str, str] = {}
        """Delivery to reason."""

    def read(self, delivery: str) -> IncomingMail:
        """Read a mail."""
        with self._call("read", delivery=delivery):
            return self._mail(delivery)

    def settle(self, delivery: str, *, note: str) -> Receipt:
        """File a mail as dealt with."""
        with self._call("settle", delivery=delivery, note=note):
            self.settled[self._mail(delivery).delivery] = note
            self.for_person.pop(delivery, None)
            return Receipt(reference=delivery)

    def keep_for_person(self, delivery: str, *, reason: str) -> Receipt:
        """Leave a mail to a person."""
        with self._call("keep_for_person", delivery=delivery, reason=reason):
            self.for_person[self._mail(delivery).delivery] = reason
            self.settled.pop(delivery, None)
            return Receipt(reference=delivery)

    def check(self) -> str:
        """Count the mails."""
        return f"a fake with {len(self.mails)} mails"

    def _mail(self, delivery: str) -> IncomingMail:
        if delivery not in self.mails:
            raise NotFound("there is no such delivery")
        return self.mails[delivery]


@dataclass
class FakeCase:
    """One open case."""

    case_id: str
    opened_by: str | None
    answered_at: datetime | None = None
    with_person: bool = False
    """Whether its run waits for a person or has failed."""


class FakeCases(Scripted):
    """Open cases, and the work that was started for them.

    Args:
        inbox: Where the mails that belong to cases are stored.
        case_id: The case of the run under test.
    """

    settlements: ClassVar = dict.fromkeys(("open_or_join", "start"), Settlement(doubt=DoubtClass.NATURAL))

    def __init__(self, inbox: FakeInbox, case_id: str = "c-0") -> None:
        super().__init__()
        self.cases: dict[str, FakeCase] = {}
        """The open cases by what they are known by."""
        self.started: list[tuple[str, Work]] = []
        """What was started, with the id of its case, in order."""
        self.due: list[datetime | None] = []
        """When each of it is to be executed, if later."""
        self._inbox = inbox
        self._case_id = case_id
        self._receipts: dict[str, Receipt] = {}

    def open_or_join(self, key: str, *, delivery: str, effect_id: str | None = None) -> CaseTicket:
        """Open the case with this key, or join the open one."""
        with self._call("open_or_join", key=key, delivery=delivery):
            if delivery not in self._inbox.mails:
                raise NotFound("there is no such delivery")
            received_at = self._inbox.mails[delivery].received_at
            new = FakeCase(case_id=f"c-{len(self.cases) + 1}", opened_by=effect_id or delivery)
            case = self.cases.setdefault(key.strip().casefold(), new)
            state: Literal["opened", "joined", "answered", "with-person"] = "joined"
            if case.opened_by == (effect_id or delivery):
                state = "opened"
            elif case.answered_at is not None and received_at > case.answered_at:
                state = "answered"
            elif case.answered_at is None and case.with_person:
                state = "with-person"
            return CaseTicket(case_id=case.case_id, state=state)

    def start(
        self, work: Work, *, case_id: str | None = None, at: datetime | None = None, effect_id: str | None = None
    ) -> Receipt:
        """Start the process that serves the case; the same effect starts it once."""
        with self._call("start", work=work, case_id=case_id, at=at):
            if at is not None and at.tzinfo is None:
                raise Rejected("at has no time zone")
            key = effect_id or f"work {len(self.started) + 1}"
            if key not in self._receipts:
                self._receipts[key] = Receipt(reference=f"r-{len(self.started) + 1}")
                self.started.append((case_id or self._case_id, work))
                self.due.append(at)
            return self._receipts[key]

    def answer(self, key: str, at: datetime) -> None:
        """Let the case with this key have its answer."""
        self.cases[key.strip().casefold()].answered_at = at

    def check(self) -> str:
        """Count the cases."""
        return f"a fake with {len(self.cases)} cases"
