"""Limits of what goes out by itself: nobody is buried in our mail, and no robot is answered for ever.

Mails that a person had a hand in, and runs that no mail started, are not limited.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, insert, select, text, update

from orchestrator.desk.inbox import DeliveryState
from orchestrator.kernel.admission import Held, Request
from orchestrator.record.clock import Clock, stamp
from orchestrator.record.prepared import Prepared
from orchestrator.record.tables import audit_event, automatic_answer, inbox, run
from orchestrator.record.trail import SYSTEM
from orchestrator.record.vault import Vault
from orchestrator.settings import MailboxSettings

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
_WITHOUT_DOTS = frozenset({"gmail.com", "googlemail.com"})
"""Providers where all spellings of an address with dots are one mailbox."""
_DELIVERIES = Prepared(select(inbox.c.delivery, inbox.c.source).where(inbox.c.run_id == bindparam("of")).limit(1))
_PARENT = Prepared(select(run.c.parent_run_id).where(run.c.run_id == bindparam("of")))


class AnswerLimits:
    """Holds automatic answers for a person once there are too many of them.

    Args:
        vault: Hides addresses.
        clock: Tells the time.
        mailboxes: The mailboxes by name, with their limits.
        per_hour: At most so many automatic answers an hour in all.
    """

    def __init__(self, vault: Vault, clock: Clock, mailboxes: Mapping[str, MailboxSettings], *, per_hour: int) -> None:
        self._vault = vault
        self._clock = clock
        self._mailboxes = mailboxes
        self._per_hour = per_hour

    def admit(self, tx: Connection, request: Request) -> None:
        """Count a mail that is about to go out, in the transaction that plans it.

        Raises:
            Held: It would be one too many; its run waits for a person, and the mail it answers lies on their desk.
        """
        origin = _origin(tx, request.run_id)
        mailbox = self._mailboxes.get(origin.source) if origin is not None else None
        if mailbox is None or _has_a_persons_word(tx, request.run_id):
            return
        now = self._clock()
        recipient = self._vault.lookup(counted_as(request.arguments["mail"].to))
        _take_turns(tx)
        tx.execute(delete(automatic_answer).where(automatic_answer.c.at < stamp(now - DAY)))
        if problem := self._why_too_many(tx, origin, mailbox, recipient, now):
            reason = f"{problem}; let it go out with: orchestrator runs resume {request.run_id}"
            raise Held(reason, also=partial(_lay_on_desk, delivery=origin.delivery, reason=reason))
        row = {"effect_id": request.effect_id, "recipient": recipient, "delivery": origin.delivery, "at": stamp(now)}
        tx.execute(insert(automatic_answer).values(row))

    def _why_too_many(
        self, tx: Connection, origin: Any, mailbox: MailboxSettings, recipient: str, now: datetime
    ) -> str:
        theirs, section = automatic_answer.c.recipient == recipient, f"[mailboxes.{origin.source}]"
        since = stamp(now - timedelta(seconds=mailbox.answer_pause_seconds))
        for_another_mail = (automatic_answer.c.delivery != origin.delivery, automatic_answer.c.at > since)
        if _count(tx, theirs, *for_another_mail):
            return f"its recipient had an automatic answer just before ({section} answer_pause_seconds)"
        if _count(tx, theirs) >= mailbox.answers_per_day:
            return f"its recipient had {mailbox.answers_per_day} automatic answers in a day ({section} answers_per_day)"
        if _count(tx, automatic_answer.c.at > stamp(now - HOUR)) >= self._per_hour:
            return f"{self._per_hour} automatic answers went out in an hour ([answers] per_hour)"
        return ""


def counted_as(address: str) -> str:
    """Return what all spellings of an address have in common that lead to the same mailbox.

    What follows a plus sign is a label (RFC 5233), and some providers ignore dots.
    """
    local, _, domain = address.strip().casefold().rpartition("@")
    local = local.partition("+")[0] or local
    if domain in _WITHOUT_DOTS:
        local, domain = local.replace(".", ""), "gmail.com"
    return f"{local}@{domain}"


def _origin(tx: Connection, run_id: str | None) -> Any:
    """Return the delivery that started a run, or one of those that started it."""
    while run_id is not None:
        if found := _DELIVERIES.rows(tx, {"of": run_id}):
            return found[0]
        parent = _PARENT.row(tx, {"of": run_id})
        run_id = parent and parent.parent_run_id
    return None


def _has_a_persons_word(tx: Connection, run_id: str) -> bool:
    """Tell whether a person decided something in this run, or let it go on."""
    # A connection that works again and a deadline that passes let runs go on, too, and are nobody's word.
    theirs = (audit_event.c.kind.in_(["decision.made", "run.resumed"]), audit_event.c.actor_auth != SYSTEM.auth)
    chosen = select(audit_event.c.event_id).where(audit_event.c.chain_id == run_id, *theirs)
    return tx.execute(chosen.limit(1)).first() is not None


def _take_turns(tx: Connection) -> None:
    """Let one transaction count at a time; SQLite has one writer anyway."""
    if tx.dialect.name == "postgresql":
        tx.execute(text(f"LOCK TABLE {automatic_answer.name} IN EXCLUSIVE MODE"))


def _count(tx: Connection, *which: ColumnElement[bool]) -> int:
    return int(tx.execute(select(func.count()).select_from(automatic_answer).where(*which)).scalar_one())


def _lay_on_desk(tx: Connection, *, delivery: str, reason: str) -> None:
    held = {"state": DeliveryState.FOR_PERSON, "note": reason}
    tx.execute(update(inbox).where(inbox.c.delivery == delivery).values(held))
