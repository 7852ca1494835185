"""The customers' cases, and the runs that serve them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import ClassVar, Literal

from sqlalchemy import Connection, select, update

from orchestrator.capabilities import CaseTicket, Receipt, Work
from orchestrator.errors import NotFound, Rejected
from orchestrator.kernel import cases, run_queries
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.runs import Opening, Runs
from orchestrator.ledger import effect_store
from orchestrator.plugins import DoubtClass, Settlement
from orchestrator.record.clock import moment
from orchestrator.record.record import Record
from orchestrator.record.tables import inbox
from orchestrator.record.trail import Actor

CaseState = Literal["opened", "joined", "answered", "with-person"]


class HostCases:
    """Opens and joins cases, and starts the processes that serve them.

    Args:
        record: Where it is written down.
        runs: Opens runs.
        processes: Finds processes by name.
    """

    settlements: ClassVar = dict.fromkeys(("open_or_join", "start"), Settlement(doubt=DoubtClass.NATURAL))
    """Opening the same case and starting the same run again changes nothing."""

    def __init__(
        self,
        record: Record,
        runs: Runs,
        processes: Callable[[], Mapping[str, ProcessDefinition]],
    ) -> None:
        self._record = record
        self._runs = runs
        self._processes = processes

    def check(self) -> str:
        """Say which processes can be started."""
        return f"processes: {', '.join(sorted(self._processes()))}"

    def open_or_join(self, key: str, *, delivery: str, effect_id: str | None = None) -> CaseTicket:
        """Open the case with this key, or join the open one."""
        opened_by, now = str(effect_id), self._record.clock()
        with self._record.store.write() as tx:
            received_at = self._received_at(tx, delivery)
            case = cases.open_or_join(tx, self._record.vault, key, opened_by=opened_by, now=now)
            state = _state(tx, case, opened_by, received_at)
            if state in ("answered", "with-person") and _was_somebody_elses(tx, case, delivery):
                cases.close(tx, case.case_id, now)
                case = cases.open_or_join(tx, self._record.vault, key, opened_by=opened_by, now=now)
                state = "opened"
            tx.execute(update(inbox).where(inbox.c.delivery == delivery).values(case_id=case.case_id))
        return CaseTicket(case_id=case.case_id, state=state)

    def start(
        self, work: Work, *, case_id: str | None = None, at: datetime | None = None, effect_id: str | None = None
    ) -> Receipt:
        """Open the run that serves the case, now or for later; a worker takes it from there."""
        definition = self._processes().get(work.process)
        if definition is None:
            raise Rejected(f"no process {work.process}; list them with: orchestrator processes")
        if at is not None and at.tzinfo is None:
            raise Rejected(f"process {work.process} is to start at a time without a time zone; give it one (UTC)")
        with self._record.store.write() as tx:
            parent = self._runs.get(tx, effect_store.find(tx, str(effect_id)).run_id)
            run_id = f"r-{sha256(str(effect_id).encode()).hexdigest()[:24]}"
            self._runs.open(
                tx,
                Opening(
                    definition=definition,
                    request=definition.request.model_validate_json(work.request),
                    run_id=run_id,
                    actor=Actor(name=f"run:{parent.run_id}", auth="process"),
                    subject_ref=parent.subject_ref,
                    case_id=case_id or parent.case_id,
                    parent_run_id=parent.run_id,
                    due_at=at,
                ),
            )
        return Receipt(reference=run_id)

    def _received_at(self, tx: Connection, delivery: str) -> str:
        found = tx.execute(select(inbox.c.received_at).where(inbox.c.delivery == delivery)).scalar_one_or_none()
        if found is None:
            raise NotFound(f"no delivery {delivery}; list them with: orchestrator inbox")
        return str(found)


def _state(tx: Connection, case: cases.Case, opened_by: str, received_at: str) -> CaseState:
    if case.opened_by == opened_by:
        return "opened"
    if case.answered_at is not None:
        return "answered" if moment(received_at) > case.answered_at else "joined"
    return "with-person" if _has_stopped_run(tx, case) else "joined"


def _was_somebody_elses(tx: Connection, case: cases.Case, delivery: str) -> bool:
    """Tell whether this mail is proven and none of the case's was: others may have written those in their name."""
    mine = select(inbox.c.proof).where(inbox.c.delivery == delivery)
    earlier = select(inbox.c.proof).where(inbox.c.case_id == case.case_id, inbox.c.delivery != delivery)
    proofs = tx.execute(earlier).scalars().all()
    return bool(tx.execute(mine).scalar_one()) and bool(proofs) and not any(proofs)


def _has_stopped_run(tx: Connection, case: cases.Case) -> bool:
    """Tell whether a run that serves the case, or the one that opened it, will not go on by itself."""
    effect = effect_store.find(tx, case.opened_by)
    return run_queries.has_stopped(tx, case.case_id, opener=effect.run_id if effect else case.opened_by)
