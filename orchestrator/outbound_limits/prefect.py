"""The limit of what goes out by itself for runs that were started in Prefect, by its schedules too.

Prefect does not say whose hand it was. So nothing that is pressed there lets a held mail go out either: that takes a
person's word at the command line.
"""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, or_, select

from orchestrator.kernel.admission import Held, LeftOut, Request
from orchestrator.outbound_limits.answers import ADD, COUNT, DAY, FORGET, counted_as, take_turns
from orchestrator.record.clock import Clock, stamp
from orchestrator.record.compiled import Compiled
from orchestrator.record.tables import audit_event
from orchestrator.record.trail import BY_PREFECTS_SCHEDULE, IN_PREFECT, SYSTEM
from orchestrator.record.vault import Vault
from orchestrator.settings import PrefectSettings

KIND = "prefect"
_OPENED = Compiled(
    select(audit_event.c.actor, audit_event.c.actor_auth).where(
        audit_event.c.chain_id == bindparam("run"), audit_event.c.kind == "run.opened"
    )
)
_PROVEN_WORD = Compiled(
    select(audit_event.c.event_id)
    .where(
        audit_event.c.chain_id == bindparam("run"),
        or_(audit_event.c.kind == "decision.made", audit_event.c.kind == "run.resumed"),
        audit_event.c.actor_auth != SYSTEM.auth,
        audit_event.c.actor_auth != BY_PREFECTS_SCHEDULE.auth,
        audit_event.c.actor_auth.not_like(f"{IN_PREFECT.auth}%"),
    )
    .limit(1)
)


class PrefectLimit:
    """Holds mails of runs that were started in Prefect for a person, once an address had too many of them.

    Args:
        vault: Hides addresses.
        clock: Tells the time.
        settings: How many go to one address.
    """

    def __init__(self, vault: Vault, clock: Clock, settings: PrefectSettings) -> None:
        self._vault = vault
        self._clock = clock
        self._limit = settings.answers_per_day

    def admit(self, tx: Connection, request: Request) -> None:
        """Count a mail that is about to go out, in the transaction that plans it.

        Raises:
            Held: It would be one too many; its run waits for a person.
            LeftOut: It would be one too many, and can be spared.
        """
        if not _began_in_prefect(tx, request.run_id) or _PROVEN_WORD.row(tx, {"run": request.run_id}):
            return
        now = self._clock()
        recipient = self._vault.lookup(counted_as(request.recipient.address))
        take_turns(tx, recipient)
        FORGET(tx, {"kind": KIND, "before": stamp(now - DAY)})
        theirs = {"whose": recipient, "kind": KIND, "since": stamp(now - DAY), "but_for": ""}
        if COUNT.row(tx, theirs).count >= self._limit:
            problem = (
                f"its recipient had {self._limit} mails in a day by runs that were started in Prefect "
                "([prefect] answers_per_day)"
            )
            if request.recipient.acknowledges:
                raise LeftOut(problem)
            reason = f"{problem}; let it go out with: orchestrator runs resume {request.run_id}"
            raise Held(reason, also=lambda _: None)
        counted = {"recipient": recipient, "delivery": request.run_id, "at": stamp(now), "started_by": KIND}
        ADD(tx, {"effect_id": request.effect_id, **counted})


def _began_in_prefect(tx: Connection, run_id: str) -> bool:
    """Tell whether a run was started in Prefect, or by a run that was."""
    opened = _OPENED.row(tx, {"run": run_id})
    while opened is not None and opened.actor_auth == "process":
        opened = _OPENED.row(tx, {"run": opened.actor.removeprefix("run:")})
    return opened is not None and opened.actor_auth in (IN_PREFECT.auth, BY_PREFECTS_SCHEDULE.auth)
