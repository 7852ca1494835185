"""What state each connection is in, for everybody to see; and the runs that wait for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, select, update

from orchestrator.bindings.guard import ConnectionState, Report
from orchestrator.kernel.runs import Runs
from orchestrator.record.clock import stamp
from orchestrator.record.record import Record
from orchestrator.record.sql import insert_if_new
from orchestrator.record.tables import connection_state
from orchestrator.record.trail import Context, Draft


@dataclass(frozen=True, kw_only=True)
class UnhealthyConnection:
    """A connection that does not work."""

    connection: str
    state: ConnectionState
    since: str
    reason: str


class ConnectionHealth:
    """Keeps the states of connections in the store, and on the record.

    Args:
        record: Where they are written down.
        runs: Finds the runs that wait for a connection.
        changed: Called after each change of a state.
    """

    def __init__(self, record: Record, runs: Runs, changed: Callable[[], None]) -> None:
        self._record = record
        self._runs = runs
        self._changed = changed

    def reporter(self, connection: str) -> Report:
        """Return what a guard tells about one connection."""
        return partial(self.report, connection)

    def answered(self, connection: str) -> None:
        """Remember that a connection has answered, unless a state of it is known: then only a change counts."""
        row = {"connection": connection, "state": ConnectionState.WORKING, "since": stamp(self._record.clock())}
        with self._record.store.write(durable=False) as tx:
            insert_if_new(tx, connection_state, {**row, "reason": ""}, unique=["connection"])

    def known(self) -> set[str]:
        """Return the connections of which a state is known: they answered, or did not."""
        with self._record.store.read() as tx:
            return set(tx.execute(select(connection_state.c.connection)).scalars())

    def ailing(self) -> list[UnhealthyConnection]:
        """Return the connections that do not work, by name."""
        ill = select(connection_state).where(connection_state.c.state != ConnectionState.WORKING)
        with self._record.store.read() as tx:
            rows = tx.execute(ill.order_by(connection_state.c.connection)).all()
        return [
            UnhealthyConnection(
                connection=row.connection, state=ConnectionState(row.state), since=row.since, reason=row.reason
            )
            for row in rows
        ]

    def report(self, connection: str, state: ConnectionState, reason: str) -> None:
        """Write down a connection's state if it is another one now; if it works again, the runs that wait for it go on.

        Args:
            connection: Its name.
            state: What it is now.
            reason: Why; without secrets or personal data.
        """
        now = self._record.clock()
        mine = connection_state.c.connection == connection
        with self._record.store.write() as tx:
            known = tx.execute(select(connection_state.c.state).where(mine).with_for_update()).scalar_one_or_none()
            if (known or ConnectionState.WORKING) == state:
                return
            row = {"state": state, "since": stamp(now), "reason": reason}
            if known is not None:
                tx.execute(update(connection_state).where(mine).values(row))
            elif not insert_if_new(tx, connection_state, {"connection": connection, **row}, unique=["connection"]):
                return  # another worker was first
            changed = Draft(kind=f"connection.{state}", context=Context(connection=connection), data={"reason": reason})
            self._record.trail.append_alone(tx, f"connection:{connection}", changed, now)
            if state is ConnectionState.WORKING:
                self._runs.wake_waiting_for(tx, connection)
        self._changed()


def states(tx: Connection) -> Sequence[Row[Any]]:
    """Return the connections of which a state is known, with the states."""
    return tx.execute(select(connection_state.c.connection, connection_state.c.state)).all()
