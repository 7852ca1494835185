"""Limits of what goes out by itself: no address is flooded, and no robot is answered for ever.

Mails that a person had a hand in, and runs that a person started on this machine, are not limited. Those that were
started in Prefect have a limit of their own (``outbound_limits.prefect``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, update

from orchestrator.builtin.inbox import DeliveryState
from orchestrator.kernel import run_queries, run_store
from orchestrator.kernel.admission import Held, LeftOut, Request
from orchestrator.record.clock import Clock, stamp
from orchestrator.record.compiled import Compiled
from orchestrator.record.record import Record
from orchestrator.record.tables import audit_event, automatic_answer, inbox
from orchestrator.record.trail import SYSTEM
from orchestrator.record.vault import Vault
from orchestrator.settings import WEBHOOK, AnswerSettings, MailboxSettings, WebhookSettings

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
_WITHOUT_DOTS = frozenset({"gmail.com", "googlemail.com"})
"""Providers where all spellings of an address with dots are one mailbox."""

_DELIVERIES = Compiled(
    select(inbox.c.delivery, inbox.c.source, inbox.c.state, inbox.c.proof)
    .where(inbox.c.run_id == bindparam("of"))
    .limit(1)
)
FORGET = Compiled(
    delete(automatic_answer).where(
        automatic_answer.c.started_by == bindparam("kind"), automatic_answer.c.at < bindparam("before")
    )
)
_THEIRS = select(func.count().label("count")).where(
    automatic_answer.c.recipient == bindparam("whose"),
    automatic_answer.c.at > bindparam("since"),
    automatic_answer.c.delivery != bindparam("but_for"),
)
_COUNT_ALL = Compiled(_THEIRS)
COUNT = Compiled(_THEIRS.where(automatic_answer.c.started_by == bindparam("kind")))
ADD = Compiled(insert(automatic_answer))
# A connection that works again and a deadline that passes let runs go on, too, and are nobody's word.
_PERSONS_WORD = Compiled(
    select(audit_event.c.event_id)
    .where(
        audit_event.c.chain_id == bindparam("run"),
        or_(audit_event.c.kind == "decision.made", audit_event.c.kind == "run.resumed"),
        audit_event.c.actor_auth != SYSTEM.auth,
    )
    .limit(1)
)


@dataclass(frozen=True, kw_only=True)
class _Budget:
    """What mails share: nobody outside of it can use it up.

    Args:
        name: Its name where mails are counted.
        limits: The section that started the run.
        acknowledges: Whether its mails can be spared: then whatever else their recipient had counts as well.
        per_hour: Maximum mails an hour in all; None if there is none.
        setting: Where that is written.
    """

    name: str
    limits: MailboxSettings | WebhookSettings
    acknowledges: bool = False
    per_hour: int | None = None
    setting: str = ""

    def count(self, tx: Connection, recipient: str, since: datetime, *, but_for: str = "") -> int:
        """Return how many mails a recipient had since then, those for one delivery left out."""
        chosen = _COUNT_ALL if self.acknowledges else COUNT
        values = {"whose": recipient, "since": stamp(since), "but_for": but_for}
        return int(chosen.row(tx, values if self.acknowledges else {**values, "kind": self.name}).count)

    def is_used_up(self, tx: Connection, now: datetime) -> bool:
        """Tell whether as many went out in an hour as may."""
        if self.per_hour is None:
            return False
        lately = (automatic_answer.c.started_by == self.name, automatic_answer.c.at > stamp(now - HOUR))
        sent = select(func.count()).select_from(automatic_answer).where(*lately)
        return int(tx.execute(sent).scalar_one()) >= self.per_hour


class AnswerLimits:
    """Holds automatic mails for a person once there are too many of them, and leaves out mere acknowledgements.

    Args:
        vault: Hides addresses.
        clock: Tells the time.
        limits: The mailboxes and the webhooks, by the source of their deliveries, with their limits.
        settings: How many automatic answers to mails go out in all.
    """

    def __init__(
        self,
        vault: Vault,
        clock: Clock,
        limits: Mapping[str, MailboxSettings | WebhookSettings],
        settings: AnswerSettings,
    ) -> None:
        self._vault = vault
        self._clock = clock
        self._limits = limits
        self._settings = settings

    def admit(self, tx: Connection, request: Request) -> None:
        """Count a mail that is about to go out, in the transaction that plans it.

        Raises:
            Held: It would be one too many; its run waits for a person, and so does what started it.
            LeftOut: It would be one too many, and can be spared.
        """
        origin = _origin(tx, request.run_id)
        limits = self._limits.get(origin.source) if origin is not None else None
        if limits is None or _has_a_persons_word(tx, request.run_id):
            return
        now, recipient = self._clock(), self._vault.lookup(counted_as(request.recipient.address))
        budget = self._budget(tx, request, origin, limits)
        take_turns(tx, budget.name if isinstance(limits, MailboxSettings) else recipient)
        FORGET(tx, {"kind": budget.name, "before": stamp(now - DAY)})
        if problem := _why_too_many(tx, origin, budget, recipient, now):
            if request.recipient.acknowledges:
                raise LeftOut(problem)
            reason = f"{problem}; let it go out with: orchestrator runs resume {request.run_id}"
            raise Held(reason, also=partial(_leave_to_person, delivery=origin.delivery, reason=reason))
        row = {"effect_id": request.effect_id, "recipient": recipient, "delivery": origin.delivery, "at": stamp(now)}
        ADD(tx, {**row, "started_by": budget.name})

    def _budget(
        self, tx: Connection, request: Request, origin: Any, limits: MailboxSettings | WebhookSettings
    ) -> _Budget:
        if isinstance(limits, WebhookSettings):
            return _Budget(name="webhooks", limits=limits)
        unproven, acknowledges = not origin.proof, request.recipient.acknowledges
        name = f"acknowledgements of {run_store.get(tx, request.run_id).process}" if acknowledges else "answers"
        few = acknowledges and unproven
        return _Budget(
            name=f"{name}, unproven" if unproven else name,
            limits=limits,
            acknowledges=acknowledges,
            per_hour=self._settings.strangers_per_hour if few else self._settings.per_hour,
            setting=f"[answers] {'strangers_per_hour' if few else 'per_hour'}",
        )


def _why_too_many(tx: Connection, origin: Any, budget: _Budget, recipient: str, now: datetime) -> str:
    if problem := _why_not_now(tx, origin, budget, recipient, now):
        return problem
    if budget.count(tx, recipient, now - DAY) >= budget.limits.answers_per_day:
        kind = "mailboxes" if isinstance(budget.limits, MailboxSettings) else "webhooks"
        section = f"[{kind}.{origin.source.removeprefix(WEBHOOK)}]"
        return f"its recipient had {budget.limits.answers_per_day} automatic mails in a day ({section} answers_per_day)"
    return ""


def _why_not_now(tx: Connection, origin: Any, budget: _Budget, recipient: str, now: datetime) -> str:
    """Tell why no mail at all is answered just now, or none to this recipient: what robots run into."""
    if not isinstance(budget.limits, MailboxSettings):
        return ""
    since = now - timedelta(seconds=budget.limits.answer_pause_seconds)
    if budget.count(tx, recipient, since, but_for=origin.delivery):
        where = f"[mailboxes.{origin.source}] answer_pause_seconds"
        return f"its recipient had an automatic answer just before ({where})"
    if budget.is_used_up(tx, now):
        return f"{budget.per_hour} automatic answers went out in an hour ({budget.setting})"
    return ""


def held_runs(record: Record) -> list[str]:
    """Return the runs whose mail was held and still waits for a person, in the order in which they were opened."""
    with record.store.read() as tx:
        return [run_id for run_id in run_queries.parked(tx) if _is_held(record, tx, run_id)]


def _is_held(record: Record, tx: Connection, run_id: str) -> bool:
    origin = _origin(tx, run_id)
    if origin is not None and origin.state != DeliveryState.FOR_PERSON:
        return False
    stopped = next(event for event in reversed(record.trail.chain(tx, run_id)) if event.kind == "run.parked")
    return bool(stopped.data["error"] == Held.__name__)


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
        run = run_store.find(tx, run_id)
        run_id = None if run is None else run.parent_run_id
    return None


def _has_a_persons_word(tx: Connection, run_id: str) -> bool:
    """Tell whether a person decided something in this run, or let it go on."""
    return _PERSONS_WORD.row(tx, {"run": run_id}) is not None


def take_turns(tx: Connection, what: str) -> None:
    """Let one transaction at a time count this; SQLite has one writer anyway."""
    if tx.dialect.name == "postgresql":
        tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"{automatic_answer.name}/{what}", 0))))


def _leave_to_person(tx: Connection, *, delivery: str, reason: str) -> None:
    held = {"state": DeliveryState.FOR_PERSON, "note": reason}
    tx.execute(update(inbox).where(inbox.c.delivery == delivery).values(held))
