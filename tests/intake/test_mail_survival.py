"""Mail from a real server, with a death at each step, mails deleted, and all numbered again: each is one row."""

from __future__ import annotations

import imaplib
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import func, select

from orchestrator.builtin.inbox import HostInbox
from orchestrator.capabilities import Inbox, Value
from orchestrator.errors import ConnectorError
from orchestrator.intake.mailboxes import MailIntake, Source
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.runs import Runs
from orchestrator.record.record import Record, open_record
from orchestrator.record.store import Store
from orchestrator.record.tables import inbox, run
from orchestrator.record.verify import verify
from orchestrator.testing.faults import FaultProxy
from orchestrator_connectors.mail import ImapSettings, MailAccount, MailSettings, SmtpSettings
from tests.support.crashing_store import Crash, CrashingStore
from tests.support.deep import cases
from tests.support.dovecot import PASSWORD, DovecotServer

MAILS = cases(250, 10_000)
ROUNDS = 8
"""How many batches the mails arrive in."""


class Incoming(Value):
    delivery: str


def triage(request: Incoming, *, inbox: Inbox) -> None:
    """Do nothing."""


def letter(number: int) -> bytes:
    size = random.Random(number).choice([0, 0, 0, 500, 5000])
    # Every tenth repeats the Message-ID of the one before it, as a forger would.
    head = f"From: c{number % 97}@example.com\r\nMessage-ID: <{number - number % 10 // 9}@example.com>\r\n\r\n"
    return f"{head}{number} {'x' * size}\r\n".encode()


class Worker:
    """Takes mail in over a line that fails and into a store that dies, as chance has it."""

    def __init__(
        self, record: Record, server: DovecotServer, login: str, line: FaultProxy, chance: random.Random
    ) -> None:
        imap = ImapSettings(host="127.0.0.1", port=line.port, security="plain", username=login, password=PASSWORD)
        smtp = SmtpSettings(host="127.0.0.1")
        settings = MailSettings(address="a@shop.example", smtp=smtp, imap=imap, timeout_seconds=60)
        self.ends: Counter[str] = Counter()
        self._watch = MailAccount(settings).watch()
        self._source = Source(
            name="support", mailbox=self._watch, process=ProcessDefinition("triage", triage), from_beginning=True
        )
        self._record, self._line, self._chance = record, line, chance
        self._hows = cycle(["well", "fetch", "search", "store", "cursor", "store", "fetch"])

    def take_in(self) -> int:
        """Take mail in until the end, whatever that is; count it."""
        how = next(self._hows)
        record = self._record
        if how in ("fetch", "search"):
            after = {"fetch": b"BODY.PEEK", "search": b"UID SEARCH"}[how]
            self._line.lose_answer(after=after, passing=self._chance.randrange(3000))
        if how in ("store", "cursor"):
            at = self._chance.randint(1, 2)
            record = replace(record, store=cast("Store", CrashingStore(record.store, at=at, committed=how == "cursor")))
        try:
            return MailIntake(record, Runs(record)).take_in(self._source)
        except (Crash, ConnectorError) as exc:
            self.ends[f"{how}: {type(exc).__name__}"] += 1
            return -1

    def finish(self) -> None:
        """Take in what is left, and nothing more."""
        intake = MailIntake(self._record, Runs(self._record))
        while True:
            with suppress(ConnectorError):  # a fault may still wait on the line
                if intake.take_in(self._source) == 0:
                    break
        assert intake.take_in(self._source) == 0
        self._watch.close()


@pytest.fixture(scope="module")
def server() -> Iterator[DovecotServer]:
    with DovecotServer() as running:
        yield running


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Record]:
    record = open_record(f"sqlite:///{tmp_path}/record.db", tmp_path / "keys" / "key")
    yield record
    record.store.close()


def test_every_mail_is_one_row_whatever_happens(sqlite: Record, server: DovecotServer) -> None:
    chance, login = random.Random(20261124), server.new_account()
    letters = [letter(number) for number in range(MAILS)]
    with FaultProxy("127.0.0.1", server.port) as line:
        worker = Worker(sqlite, server, login, line, chance)
        for batch in range(ROUNDS):
            server.put(login, *letters[batch::ROUNDS])
            for _ in range(max(3, MAILS // 400)):
                worker.take_in()
            match batch % 3:
                case 1:
                    delete_what_is_stored(sqlite, server, login, chance)
                case 2:
                    server.forget_uids(login)
        worker.finish()
    assert worker.ends.keys() >= {"store: Crash", "cursor: Crash"}, "the deaths must have happened"
    assert stored(sqlite) == Counter(letters)
    with sqlite.store.read() as tx:
        assert tx.execute(select(func.count()).select_from(run)).scalar_one() == MAILS
        assert verify(tx).breaches == ()


def delete_what_is_stored(record: Record, server: DovecotServer, login: str, chance: random.Random) -> None:
    """Let a person delete some mails that lie in the inbox already, and file others again."""
    with record.store.read() as tx:
        keys = list(tx.execute(select(inbox.c.source_key)).scalars())
    with imaplib.IMAP4("127.0.0.1", server.port) as client:
        client.login(login, PASSWORD)
        client.select()
        validity = client.response("UIDVALIDITY")[1][0].decode()
        mine = [key.partition(":")[2] for key in keys if key.startswith(f"{validity}:")]
        for uid in chance.sample(mine, k=min(10, len(mine))):
            client.uid("STORE", uid, "+FLAGS", r"(\Deleted)")
        client.expunge()


def stored(record: Record) -> Counter[bytes]:
    box: Any = HostInbox(record)
    return Counter(box.raw(found.delivery)[0] for found in box.listed(limit=10 * MAILS))
