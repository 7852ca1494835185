"""Ledgers that lack one precaution each, to prove that the tests would notice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from orchestrator.errors import LeaseLost
from orchestrator.kernel.session import Session
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.model import Effect
from orchestrator.ledger.states import Cause, State
from orchestrator.plugins import DoubtClass
from orchestrator.record.trail import Draft, Sealer


class WithoutIntent(Ledger):
    """Calls first and writes down afterwards."""

    def perform(self, effect: Effect) -> Any:
        """Perform an effect."""
        if self._owner.read_effect(effect.effect_id) is not None:
            return super().perform(effect)
        answer = effect.invoke()
        self._plan(effect)
        self._confirm(effect, 1, State.ATTEMPTING, Cause.SUCCEED, answer)
        return answer


class WithoutProbe(Ledger):
    """Repeats what should be looked for."""

    def _settle(self, effect: Effect, row: Any) -> Any:
        if effect.settlement.doubt is DoubtClass.PROBE:
            return self._again(effect, row.attempt, repeats=True)
        return super()._settle(effect, row)


class WithoutProof(Ledger):
    """Believes every probe that sees nothing."""

    def perform(self, effect: Effect) -> Any:
        """Perform an effect."""
        return super().perform(replace(effect, absence_counts=lambda: True))


class WithoutAsking(Ledger):
    """Repeats what only a person can decide."""

    def _settle(self, effect: Effect, row: Any) -> Any:
        return self._again(effect, row.attempt, repeats=True)


class WithoutHurry(Ledger):
    """Calls however long ago the attempt was written down."""

    def _refuse_late(self, effect: Effect, attempt: Any) -> None:
        pass


class WithoutFence(WithoutHurry):
    """Writes and calls without regard to who owns the run."""

    def __init__(self, session: Session) -> None:
        super().__init__(_Trespasser(session))


class _Trespasser:
    """An owner that writes wherever the chain ends now, whoever owns the run, whatever became of the effect."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def now(self) -> datetime:
        return self._session.now()

    def draft(self, kind: str, data: Mapping[str, Any], *, sealer: Sealer | None = None, **context: Any) -> Draft:
        return self._session.draft(kind, data, sealer=sealer, **context)

    def read_effect(self, effect_id: str) -> Any:
        return self._session.read_effect(effect_id)

    def clock_columns(self) -> dict[str, str]:
        return self._session.clock_columns()

    def report_late(self, effect_id: str, outcome: str) -> None:
        self._session.report_late(effect_id, outcome)

    def report_duplicate(self, tx: Connection, outcome: Draft) -> None:
        self._session.report_duplicate(tx, outcome)

    def keep(self, draft: Draft, change: Callable[[Connection], None]) -> None:
        self.commit(draft, change=change)

    def settle_up(self) -> None:
        pass

    def commit(
        self, *drafts: Draft, change: Callable[[Connection], None] | None = None, call: timedelta | None = None
    ) -> None:
        session, record = self._session, self._session._record
        with record.store.write() as tx:
            for draft in [*session._kept, *drafts]:
                record.trail.append_alone(tx, session.run.run_id, draft, self.now())
            with suppress(IntegrityError, LeaseLost), tx.begin_nested():
                if change is not None:
                    change(tx)
            session._head = record.trail.head(tx, session.run.run_id)
        session._kept.clear()


VARIANTS: dict[str, Callable[[Session], Ledger]] = {
    "sound": Ledger,
    "without intent": WithoutIntent,
    "without probe": WithoutProbe,
    "without proof": WithoutProof,
    "without asking": WithoutAsking,
    "without hurry": WithoutHurry,
    "without fence": WithoutFence,
}
