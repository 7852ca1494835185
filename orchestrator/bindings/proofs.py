"""Proves probes: one that has shown an effect known to have happened is believed when it sees none.

A provider may file nothing in the folder that is looked into, or give what it files another name. Then its probe never
finds anything, and each doubt would end in a second mail. So until a probe has found a confirmed effect of its
connection, with the settings of now, nothing is concluded from what it does not find: a person settles the doubt.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from orchestrator.bindings.connections import Connections
from orchestrator.errors import RecordError
from orchestrator.kernel.codec import OperationForm, forms_of
from orchestrator.kernel.steps import look_for
from orchestrator.plugins import DoubtClass, Settlement
from orchestrator.record.clock import stamp
from orchestrator.record.compiled import Compiled
from orchestrator.record.record import Record
from orchestrator.record.sql import insert_if_new
from orchestrator.record.tables import audit_event, probe
from orchestrator.record.trail import Context, Draft

AGAIN = timedelta(minutes=2)
"""A probe that saw nothing, or could not look, looks again after so long."""
TRIES = 3
"""A probe that sees nothing so often in a row is unproven."""
LASTS = timedelta(hours=1)
"""A proof is renewed after so long, by the next effect. Effects that are older are not looked for."""
MOST = 5
"""So many of the newest effects are considered: the private values of some may have been erased."""

_FIND = Compiled(select(probe).where(probe.c.connection == bindparam("of"), probe.c.operation == bindparam("which")))
_CONFIRMED = Compiled(
    select(audit_event.c.at, audit_event.c.run_id, audit_event.c.effect_id)
    .where(
        audit_event.c.at > bindparam("after"),
        audit_event.c.at <= bindparam("until"),
        audit_event.c.kind == "effect.outcome",
        audit_event.c.connection == bindparam("connection"),
        audit_event.c.capability == bindparam("capability"),
        audit_event.c.operation == bindparam("operation"),
    )
    .order_by(audit_event.c.at.desc())
    .limit(MOST)
)


class ProbeState(StrEnum):
    """What is known of a probe."""

    UNTRIED = "untried"
    """It has not looked yet for an effect that is known to have happened."""
    PROVEN = "proven"
    """It found one: what it does not see did not happen."""
    UNPROVEN = "unproven"
    """It looked for one, and did not find it."""


REASONS: Mapping[ProbeState, str] = {
    ProbeState.UNTRIED: "it is not known yet whether the probe of {operation} finds what was done; until then a person "
    "settles doubts",
    ProbeState.PROVEN: "the probe of {operation} finds what was done, and settles doubts",
    ProbeState.UNPROVEN: "the probe of {operation} does not find what was done, so a person settles doubts: correct "
    "the settings that say where it looks",
}
"""What each state means, for people."""


@dataclass(frozen=True, kw_only=True)
class _Probe:
    """The probe of one effect of one connection."""

    connection: str
    form: OperationForm
    settlement: Settlement
    settings: str
    """A keyed hash of the connection's settings: others may look elsewhere."""


@dataclass(frozen=True, kw_only=True)
class _Known:
    """An effect that is known to have happened."""

    at: str
    effect_id: str
    arguments: dict[str, Any]


class Proofs:
    """Keeps on the record which probes have been proven, and proves them.

    Args:
        record: Where it is written down.
        connections: The connections.
    """

    def __init__(self, record: Record, connections: Connections) -> None:
        self._record = record
        self._connections = connections

    def is_proven(self, connection: str, operation: str) -> bool:
        """Tell whether it is believed of an effect (``mailer.send``) that it did not happen if its probe sees none.

        If there are effects since the probe was proven, it must show the newest one now.

        Raises:
            ConnectorError: It cannot be told now.
        """
        each = next(each for each in self._probes(connection) if each.form.name == operation)
        row, now = self._row(each), self._record.clock()
        if _state(row, each) is not ProbeState.PROVEN or row.misses:
            return False
        newest = self._newest(each, row, now)
        return newest is None or self._sees(each, row, newest, now)

    def states(self, connection: str) -> dict[str, ProbeState]:
        """Return the state of each probe of a connection, by operation."""
        return {each.form.name: _state(self._row(each), each) for each in self._probes(connection)}

    def sentences(self, connection: str) -> list[str]:
        """Say what is known of each probe of a connection that is not proven, and what to do."""
        states = self.states(connection).items()
        return [REASONS[state].format(operation=name) for name, state in states if state is not ProbeState.PROVEN]

    def look(self, connection: str) -> None:
        """Let the probes of a connection look for its newest confirmed effects, if it is time.

        Raises:
            ConnectorError: One cannot look now.
        """
        for each in self._probes(connection):
            self._look(each, self._record.clock())

    def _look(self, each: _Probe, now: datetime) -> None:
        row = self._row(each)
        if row is None or row.settings != each.settings:
            self._begin(each, now)
        elif row.due_at <= stamp(now) and (newest := self._newest(each, row, now)):
            again = stamp(now + AGAIN)
            if self._move(each, row, due_at=again):  # of several workers, one looks
                self._sees(each, row._replace(due_at=again), newest, now)

    def _sees(self, each: _Probe, row: Any, known: _Known, now: datetime) -> bool:
        """Let the probe look for an effect that is known to have happened, and write down what that says of it."""
        seen = look_for(each.connection, each.form, each.settlement, known.effect_id, known.arguments) is not None
        columns: dict[str, Any] = {"misses": row.misses + 1, "due_at": stamp(now + AGAIN)}
        if seen or columns["misses"] >= TRIES:
            state = ProbeState.PROVEN if seen else ProbeState.UNPROVEN
            columns = {"state": state, "misses": 0, "seen_until": known.at, "due_at": stamp(now + LASTS)}
        self._move(each, row, **columns)
        return seen

    def _probes(self, connection: str) -> Iterator[_Probe]:
        instance, settings = self._connections.get(connection), self._settings_of(connection)
        for capability in self._connections.capabilities_of(connection):
            for form in forms_of(capability).values():
                if form.operation.kind != "effect":
                    continue
                settlement = instance.settlements[form.operation.name]
                if settlement.doubt is DoubtClass.PROBE:
                    yield _Probe(connection=connection, form=form, settlement=settlement, settings=settings)

    def _settings_of(self, connection: str) -> str:
        section = json.dumps(self._connections.section_of(connection), sort_keys=True, default=str)
        return self._record.vault.fingerprint(b"probe", section.encode())

    def _row(self, each: _Probe) -> Any:
        with self._record.store.read() as tx:
            return _FIND.row(tx, {"of": each.connection, "which": each.form.name})

    def _begin(self, each: _Probe, now: datetime) -> None:
        """Remember the settings: only effects confirmed from now on can prove the probe."""
        mine = {"connection": each.connection, "operation": each.form.name}
        row = {"settings": each.settings, "state": ProbeState.UNTRIED, "misses": 0, "seen_until": stamp(now)}
        with self._record.store.write() as tx:
            tx.execute(delete(probe).filter_by(**mine))
            insert_if_new(tx, probe, {**mine, **row, "due_at": stamp(now)}, unique=list(mine))

    def _newest(self, each: _Probe, row: Any, now: datetime) -> _Known | None:
        """Return the newest effect that must be visible by now and has not been looked for."""
        until = now - each.settlement.visibility_delay
        about = {
            "after": max(row.seen_until, stamp(until - LASTS)),
            "until": stamp(until),
            "connection": each.connection,
            "capability": each.form.capability,
            "operation": each.form.operation.name,
        }
        with self._record.store.read() as tx:
            found = (self._known(tx, each.form, event) for event in _CONFIRMED.rows(tx, about))
            return next((known for known in found if known is not None), None)

    def _known(self, tx: Connection, form: OperationForm, outcome: Any) -> _Known | None:
        """Return an effect with its arguments, if they can still be read."""
        events = self._record.trail.chain(tx, outcome.run_id)
        intent = next(
            each for each in events if each.kind == "effect.intent" and each.context.effect_id == outcome.effect_id
        )
        try:
            arguments = form.read_arguments(
                intent.data["request"], self._record.trail.private_values(tx, [intent.event_id])
            )
        except RecordError:
            return None
        return _Known(at=outcome.at, effect_id=outcome.effect_id, arguments=arguments)

    def _move(self, each: _Probe, row: Any, **columns: Any) -> bool:
        """Change the row unless somebody else did; a new state goes on the record."""
        held = {"operation": each.form.name, "settings": each.settings, "due_at": row.due_at}
        with self._record.store.write() as tx:
            mine = update(probe).filter_by(connection=each.connection, **held)
            moved = tx.execute(mine.values(**columns)).rowcount == 1
            if moved and (state := columns.get("state", row.state)) != row.state:
                changed = Draft(
                    kind=f"connection.{state}",
                    context=Context(
                        connection=each.connection,
                        capability=each.form.capability,
                        operation=each.form.operation.name,
                        title=each.form.operation.title,
                    ),
                    data={"reason": REASONS[state].format(operation=each.form.name)},
                )
                self._record.trail.append_alone(tx, f"connection:{each.connection}", changed, self._record.clock())
        return moved


def _state(row: Any, each: _Probe) -> ProbeState:
    return ProbeState(row.state) if row is not None and row.settings == each.settings else ProbeState.UNTRIED
