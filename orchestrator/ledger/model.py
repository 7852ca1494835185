"""What an effect is to the ledger, and what the ledger needs of the owner of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import Connection

from orchestrator.plugins import Settlement
from orchestrator.record.trail import Draft, Sealer


class Owner(Protocol):
    """What the ledger needs of the session that owns the run."""

    def now(self) -> datetime:
        """Tell the time."""
        ...

    def draft(self, kind: str, data: dict[str, Any], *, sealer: Sealer | None = None, **context: Any) -> Draft:
        """Return an event of the run."""
        ...

    def commit(
        self, *drafts: Draft, change: Callable[[Connection], None] | None = None, call: timedelta | None = None
    ) -> None:
        """Write events and change in one durable transaction that holds the fence, also for the call that follows."""
        ...

    def keep(self, draft: Draft, change: Callable[[Connection], None]) -> None:
        """Write an event and its change with the next commit, before any other system is called."""
        ...

    def settle_up(self) -> None:
        """Commit what was kept."""
        ...

    def clock_columns(self) -> dict[str, str]:
        """Return the columns that say by which clock the moments of an effect are written."""
        ...

    def report_late(self, effect_id: str, outcome: str) -> None:
        """Record an outcome that came too late."""
        ...

    def report_duplicate(self, tx: Connection, outcome: Draft) -> None:
        """Raise an alarm if another attempt of the same effect is known to have happened, too."""
        ...

    def read_effect(self, effect_id: str) -> Any:
        """Return the effect's row, or None."""
        ...


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One effect to be performed.

    Args:
        effect_id: Its id, the same after every replay.
        run_id: Its run.
        step: Its step in the run.
        about: The audit columns: capability, operation, connection, connector_version.
        settlement: How a doubt is settled.
        request: The frozen request as it stands in the record.
        sealer: The one that sealed the request.
        invoke: Calls the system and returns its answer.
        probe: Looks whether it happened: the answer, or None.
        absence_counts: Whether it is believed that it did not happen if the probe does not see it: only of a probe that
            has seen another effect of this connection.
        write_answer: Turns an answer into its recorded form.
        admit: Called in the transaction that plans it; what it raises keeps the effect from happening.
    """

    effect_id: str
    run_id: str
    step: int
    about: dict[str, str]
    settlement: Settlement
    request: dict[str, Any]
    sealer: Sealer
    invoke: Callable[[], Any]
    probe: Callable[[], Any]
    absence_counts: Callable[[], bool]
    write_answer: Callable[[Any, Sealer], Any]
    admit: Callable[[Connection], None] | None = None


def effect_id(run_id: str, step: int, operation: str) -> str:
    """Return the id of an effect: a digest of its place, so that a replay finds it again."""
    return f"f-{hashlib.sha256(f'{run_id}/{step}/{operation}'.encode()).hexdigest()[:32]}"
