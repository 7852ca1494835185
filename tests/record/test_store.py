from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier

import pytest
from sqlalchemy import Connection, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from orchestrator.record.record import Record
from orchestrator.record.tables import intake_cursor, question

ROW = {"source": "support", "cursor": "0", "since": "-", "updated_at": "-"}


def cursor(tx: Connection) -> str | None:
    return tx.execute(select(intake_cursor.c.cursor)).scalar_one_or_none()


def put(record: Record, value: str) -> None:
    with record.store.write() as tx:
        if cursor(tx) is None:
            tx.execute(insert(intake_cursor).values(ROW | {"cursor": value}))
        else:
            tx.execute(update(intake_cursor).values(cursor=value))


def test_what_was_written_is_there_for_others(record: Record, reopen: Callable[[], Record]) -> None:
    put(record, "1")
    with reopen().store.read() as tx:
        assert cursor(tx) == "1"


def test_what_was_raised_undoes_everything(record: Record) -> None:
    with suppress(KeyError), record.store.write() as tx:
        tx.execute(insert(intake_cursor).values(ROW))
        raise KeyError
    with record.store.read() as tx:
        assert cursor(tx) is None


def test_a_reader_sees_one_moment_and_holds_nobody_up(record: Record, reopen: Callable[[], Record]) -> None:
    put(record, "1")
    with record.store.read() as tx:
        assert cursor(tx) == "1"
        put(reopen(), "2")
        assert cursor(tx) == "1"
    with record.store.read() as tx:
        assert cursor(tx) == "2"


@pytest.mark.parametrize("record_url", ["postgresql"], indirect=True)
@pytest.mark.postgres
def test_a_reader_cannot_write(record: Record) -> None:
    with pytest.raises(DBAPIError, match="read-only"), record.store.read() as tx:
        tx.execute(insert(intake_cursor).values(ROW))


@pytest.mark.parametrize("record_url", ["sqlite"], indirect=True)
def test_writers_wait_for_each_other_and_none_is_lost(record: Record, reopen: Callable[[], Record]) -> None:
    """Each reads before it writes: two at once would both read the same."""
    put(record, "0")
    others = [reopen() for _ in range(4)]
    ready = Barrier(4)

    def count_up(other: Record) -> None:
        ready.wait(timeout=30)
        for _ in range(10):
            with other.store.write() as tx:
                tx.execute(update(intake_cursor).values(cursor=str(int(cursor(tx) or 0) + 1)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count_up, others))
    with record.store.read() as tx:
        assert cursor(tx) == "40"


@pytest.mark.parametrize("record_url", ["sqlite"], indirect=True)
def test_sqlite_flushes_every_commit_and_overwrites_what_is_deleted(record: Record) -> None:
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
    with record.store.write(durable=False) as tx:
        assert tx.execute(text("PRAGMA synchronous")).scalar_one() == 1
    with record.store.write() as tx:
        assert {name: tx.execute(text(f"PRAGMA {name}")).scalar_one() for name in wanted} == wanted


@pytest.mark.parametrize("record_url", ["postgresql"], indirect=True)
@pytest.mark.postgres
def test_postgresql_answers_a_commit_when_it_is_flushed(record: Record) -> None:
    with record.store.write(durable=False) as tx:
        assert tx.execute(text("SHOW synchronous_commit")).scalar_one() == "off"
    with record.store.write() as tx:
        assert tx.execute(text("SHOW synchronous_commit")).scalar_one() == "on"


def test_a_row_must_belong_to_something(record: Record) -> None:
    with pytest.raises(IntegrityError), record.store.write() as tx:
        tx.execute(insert(question).values(question_id="q", run_id="r-none", asked_at="-"))


def test_an_error_of_the_database_does_not_tell_what_was_to_be_written(record: Record) -> None:
    put(record, "1")
    with pytest.raises(IntegrityError) as caught, record.store.write() as tx:
        tx.execute(insert(intake_cursor).values(ROW | {"cursor": "anna@example.com"}))
    assert "anna@example.com" not in str(caught.value)
