"""How a run is opened: whose matter it is, and what its first event says."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection

from orchestrator.capabilities import SEAL
from orchestrator.kernel import cases, run_store
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.record.clock import stamp
from orchestrator.record.record import Record
from orchestrator.record.trail import Actor, Context, Draft, Head, Sealer
from orchestrator.record.wakeup import wake_on_commit


@dataclass(frozen=True, kw_only=True)
class Opening:
    """A run to open.

    Args:
        definition: The process.
        request: Its input.
        run_id: The run's id; opening the same one again changes nothing.
        actor: Who starts it, and how that was proven.
        subject_ref: Whose matter it is, if that is known already.
        case_id: The case it serves; without one, the process tells from the input.
        parent_run_id: The run that starts it.
        prefect_run_id: The Prefect flow run that executes it.
        due_at: When it is to be executed, if later.
        before: Events that come first in its chain.
        reserved: True if the caller executes it at once: then workers leave it alone for a while.
    """

    definition: ProcessDefinition
    request: BaseModel
    run_id: str
    actor: Actor
    subject_ref: str | None = None
    case_id: str | None = None
    parent_run_id: str | None = None
    prefect_run_id: str | None = None
    due_at: datetime | None = None
    before: Sequence[Draft] = ()
    reserved: bool = False


def new_run_id() -> str:
    """Return an id for a run that nothing else names."""
    return f"r-{secrets.token_hex(12)}"


def open_run(record: Record, tx: Connection, opening: Opening, due: Mapping[str, Any]) -> bool:
    """Open a run, ready to be executed, in the caller's transaction.

    Args:
        record: Where it is written down.
        tx: The transaction.
        opening: The run.
        due: When it is due if the opening does not say, as ``due_in`` gave it.

    Returns:
        False if the run was there already.
    """
    if run_store.find(tx, opening.run_id) is not None:
        return False
    now = record.clock()
    subject_ref, case_id = _whose(record, tx, opening, now)
    columns = {
        "run_id": opening.run_id,
        "process": opening.definition.name,
        "case_id": case_id,
        "subject_ref": subject_ref,
        "parent_run_id": opening.parent_run_id,
        "prefect_run_id": opening.prefect_run_id,
        "created_at": stamp(now),
        **due,
    }
    if opening.due_at is not None:  # a promise: it is kept by the wall clock alone
        columns |= {"due_at": stamp(opening.due_at), "until_clock": ""}
    if not run_store.insert_ready(tx, columns):
        return False
    draft = _opened(opening, subject_ref, case_id)
    record.trail.append(tx, opening.run_id, Head(), [*opening.before, draft], now)
    if not opening.reserved:
        wake_on_commit(tx)
    return True


def _whose(record: Record, tx: Connection, opening: Opening, now: datetime) -> tuple[str, str | None]:
    if opening.case_id is not None:
        return cases.subject_of(tx, opening.case_id), opening.case_id
    if opening.definition.case_key is not None:
        key = opening.definition.case_key(opening.request)
        case = cases.open_or_join(tx, record.vault, key, opened_by=opening.run_id, now=now)
        return case.subject_ref, case.case_id
    return opening.subject_ref or record.vault.subject(tx, None, now), None


def _opened(opening: Opening, subject_ref: str, case_id: str | None) -> Draft:
    sealer = Sealer()
    return Draft(
        kind="run.opened",
        actor=opening.actor,
        context=Context(
            run_id=opening.run_id,
            prefect_run_id=opening.prefect_run_id,
            process=opening.definition.name,
            process_version=opening.definition.version,
            case_id=case_id,
            subject_ref=subject_ref,
        ),
        data={
            "request": opening.request.model_dump(mode="json", context={SEAL: sealer}),
            "parent_run_id": opening.parent_run_id,
            "due_at": stamp(opening.due_at) if opening.due_at else None,
        },
        sealer=sealer,
    )
