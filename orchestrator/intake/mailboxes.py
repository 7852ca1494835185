"""Taking in mail: each one is stored, with its run and its audit event, in one transaction with the cursor."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

from pydantic import BaseModel
from sqlalchemy import Connection, insert, select, update

from orchestrator.capabilities import Mailbox, MailPage, RawMail
from orchestrator.intake.authentication import Authentication, authentication_of
from orchestrator.intake.reading import sender_of
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.runs import Opening, Runs
from orchestrator.record.clock import stamp
from orchestrator.record.record import Record
from orchestrator.record.sql import insert_if_new
from orchestrator.record.tables import inbox, intake_cursor
from orchestrator.record.trail import Actor, Context, Draft

PAGE = 20
"""At most so many mails are read at once."""
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
CLOCK_SLACK = timedelta(hours=1)
"""The mail server's clock may be behind ours by so much, and it tells whole seconds (RFC 9051 2.3.3)."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A mailbox to take mail from.

    Args:
        name: Its name in the configuration.
        mailbox: Reads it.
        process: What each mail starts; its input has one field, ``delivery``.
        from_beginning: Whether mail that lay there before the first start is taken in as well.
        authserv_id: Whose word counts on who wrote a mail; without it, nobody's address is proven.
    """

    name: str
    mailbox: Mailbox
    process: ProcessDefinition
    from_beginning: bool
    authserv_id: str | None = None


class _Start(NamedTuple):
    cursor: str | None
    since: str
    """Older mail is left alone even if the server's numbering starts again, and with it the cursor."""


class MailIntake:
    """Takes new mail into the inbox.

    Args:
        record: Where it is stored.
        runs: Opens the runs that deal with it.
    """

    def __init__(self, record: Record, runs: Runs) -> None:
        self._record = record
        self._runs = runs

    def take_in(self, source: Source) -> int:
        """Take in what is new in a mailbox.

        Returns:
            How many mails were new.

        Raises:
            ConnectorError: The mailbox cannot be read.
        """
        taken = 0
        start = self._start(source)
        cursor = start.cursor
        while True:
            page = source.mailbox.new_mail(cursor, limit=PAGE)
            if page.mails or page.cursor != cursor:
                taken += self._accept(source, page, _Start(cursor, start.since))
            if not page.mails or page.cursor == cursor:
                return taken
            cursor = page.cursor

    def _start(self, source: Source) -> _Start:
        known = self._known_start(source)
        if known is not None:
            return known
        if source.from_beginning:
            return _Start(None, stamp(LONG_AGO))
        position, since = source.mailbox.position(), stamp(self._record.clock() - CLOCK_SLACK)
        with self._record.store.write() as tx:
            # Another worker may have started first: mail behind its position is new, so that position counts.
            insert_if_new(tx, intake_cursor, self._place(source, position, since), unique=["source"])
        return self._known_start(source) or _Start(position, since)

    def _known_start(self, source: Source) -> _Start | None:
        with self._record.store.read() as tx:
            row = tx.execute(select(intake_cursor).where(intake_cursor.c.source == source.name)).one_or_none()
        return None if row is None else _Start(row.cursor, row.since)

    def _accept(self, source: Source, page: MailPage, start: _Start) -> int:
        """Store the mails of a page that are new, each with its run, and move the cursor: all or nothing."""
        with self._record.store.write() as tx:
            # First of all: it makes workers that are told of the same mail at once take turns.
            self._move_cursor(tx, source, page.cursor, start)
            recent = [mail for mail in page.mails if stamp(mail.received_at) >= start.since]
            new = [mail for mail in recent if self._store(tx, source, mail)]
        return len(new)

    def _place(self, source: Source, cursor: str, since: str) -> dict[str, str]:
        now = stamp(self._record.clock())
        return {"source": source.name, "cursor": cursor, "since": since, "updated_at": now}

    def _move_cursor(self, tx: Connection, source: Source, cursor: str, start: _Start) -> None:
        """Move the cursor on, unless another worker has moved it meanwhile; either way it is ours until the commit."""
        row = self._place(source, cursor, start.since)
        if insert_if_new(tx, intake_cursor, row, unique=["source"]):
            return
        mine = intake_cursor.c.source == source.name
        known = tx.execute(select(intake_cursor.c.cursor).where(mine).with_for_update()).scalar_one()
        if known == start.cursor:
            tx.execute(update(intake_cursor).where(mine).values(**row))

    def _store(self, tx: Connection, source: Source, mail: RawMail) -> bool:
        """Store one mail with its run and its audit event, unless it is there already."""
        fingerprint = self._record.vault.fingerprint(stamp(mail.received_at).encode(), mail.raw)
        if _known(tx, source.name, mail.key, fingerprint):
            return False
        now = self._record.clock()
        delivery = f"d-{sha256(f'{source.name}/{mail.key}'.encode()).hexdigest()[:24]}"
        subject_ref = self._record.vault.subject(tx, sender_of(mail.raw) or None, now)
        authentication = authentication_of(mail.raw, source.authserv_id)
        run_id = self._open_run(tx, source, mail, delivery, subject_ref, authentication)
        nonce, ciphertext = self._record.vault.encrypt(tx, subject_ref, mail.raw, bound_to=f"inbox/{delivery}")
        row = {
            "delivery": delivery,
            "source": source.name,
            "source_key": mail.key,
            "fingerprint": fingerprint,
            "received_at": stamp(mail.received_at),
            "accepted_at": stamp(now),
            "truncated": mail.truncated,
            "proof": authentication.proof,
            "subject_ref": subject_ref,
            "nonce": nonce,
            "ciphertext": ciphertext,
            "state": "new",
            "run_id": run_id,
        }
        tx.execute(insert(inbox).values(row))
        return True

    def _open_run(
        self,
        tx: Connection,
        source: Source,
        mail: RawMail,
        delivery: str,
        subject_ref: str,
        authentication: Authentication,
    ) -> str:
        run_id = f"r-{delivery[2:]}"
        proof = authentication.proof
        accepted = Draft(
            kind="delivery.accepted",
            actor=Actor(name=f"mail:{source.name}", auth=f"mail ({proof})" if proof else "unproven"),
            context=Context(run_id=run_id, subject_ref=subject_ref, process=source.process.name),
            data={
                "delivery": delivery,
                "source_key": mail.key,
                "size": len(mail.raw),
                "authentication": dict(authentication.results),
            },
        )
        opening = Opening(
            definition=source.process,
            request=_request(source.process, delivery),
            run_id=run_id,
            actor=accepted.actor,
            subject_ref=subject_ref,
            before=[accepted],
        )
        self._runs.open(tx, opening)
        return run_id


def _known(tx: Connection, source: str, key: str, fingerprint: str) -> bool:
    same = (inbox.c.source_key == key) | (inbox.c.fingerprint == fingerprint)
    return tx.execute(select(inbox.c.delivery).where(inbox.c.source == source, same).limit(1)).first() is not None


def _request(process: ProcessDefinition, delivery: str) -> BaseModel:
    return process.request.model_validate({"delivery": delivery})
