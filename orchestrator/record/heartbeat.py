"""Signs of life: each process says in the store that it is alive, so that others know."""

from __future__ import annotations

import os
import secrets
import socket
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, select, update

from orchestrator.record.clock import moment, stamp
from orchestrator.record.record import Record
from orchestrator.record.sql import insert_if_new
from orchestrator.record.tables import heartbeat

WORKER = "worker"
GATEWAY = "gateway"
BEAT_SECONDS = 10.0
ALIVE = timedelta(seconds=45)
"""Who has not been seen for so long is dead, or cannot reach the store."""
FORGOTTEN = timedelta(days=1)


class Heartbeat:
    """The signs of life of one process.

    Args:
        record: Where they are given.
        kind: ``WORKER`` or ``GATEWAY``.
    """

    def __init__(self, record: Record, kind: str) -> None:
        self._record = record
        self._kind = kind
        self._name = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"

    def beat(self) -> None:
        """Give a sign of life; it is durable, so it also proves that the store can be written.

        Raises:
            sqlalchemy.exc.DBAPIError: It cannot.
        """
        now = self._record.clock()
        row = {"process": self._name, "kind": self._kind, "seen_at": stamp(now)}
        with self._record.store.write() as tx:
            seen = update(heartbeat).where(heartbeat.c.process == self._name).values(seen_at=stamp(now))
            if tx.execute(seen).rowcount == 0:
                tx.execute(delete(heartbeat).where(heartbeat.c.seen_at < stamp(now - FORGOTTEN)))
                insert_if_new(tx, heartbeat, row, unique=["process"])

    def end(self) -> None:
        """Sign off."""
        with self._record.store.write() as tx:
            tx.execute(delete(heartbeat).where(heartbeat.c.process == self._name))


def last_beat(tx: Connection, kind: str) -> datetime | None:
    """Return when a process of this kind was last seen."""
    seen = tx.execute(select(func.max(heartbeat.c.seen_at)).where(heartbeat.c.kind == kind)).scalar_one()
    return moment(seen) if seen else None
