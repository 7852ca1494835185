from __future__ import annotations

import pytest
from sqlalchemy import bindparam, insert, select, text, update
from sqlalchemy.exc import IntegrityError, ProgrammingError

from orchestrator.record.compiled import Compiled
from orchestrator.record.record import Record
from orchestrator.record.tables import intake_cursor

ROW = {"source": "support", "cursor": "0", "since": "-", "updated_at": "-"}
PUT = Compiled(insert(intake_cursor))
GET = Compiled(select(intake_cursor).where(intake_cursor.c.source == bindparam("name")))
MOVE = Compiled(update(intake_cursor).where(intake_cursor.c.source == bindparam("name"), intake_cursor.c.since == "-"))


def test_rows_are_put_changed_and_found(record: Record) -> None:
    with record.store.write() as tx:
        PUT.many(tx, [ROW, {**ROW, "source": "sales"}])
        PUT.many(tx, [])
        assert PUT(tx, {**ROW, "source": "office"}) == 1
        assert MOVE(tx, {"name": "sales", "cursor": "1"}) == 1
        assert MOVE(tx, {"name": "sales", "cursor": "2", "since": "x"}) == 1
        assert MOVE(tx, {"name": "sales", "cursor": "3"}) == 0
        assert MOVE(tx, {"name": "nobody", "cursor": "1"}) == 0
    with record.store.read() as tx:
        found = GET.row(tx, {"name": "sales"})
        assert (found.source, found.cursor, found.since) == ("sales", "2", "x")
        assert GET.row(tx, {"name": "nobody"}) is None
        assert [row.source for row in GET.rows(tx, {"name": "office"})] == ["office"]


def test_errors_are_those_of_sqlalchemy_and_tell_no_value(record: Record) -> None:
    secret = {**ROW, "cursor": "anna@example.com"}
    with record.store.write() as tx:
        PUT(tx, ROW)
    with pytest.raises(IntegrityError) as alone, record.store.write() as tx:
        PUT(tx, secret)
    with pytest.raises(IntegrityError) as among, record.store.write() as tx:
        PUT.many(tx, [{**ROW, "source": "sales"}, secret])
    assert "anna@example.com" not in str(alone.value) + str(among.value)
    with record.store.read() as tx:
        assert GET.row(tx, {"name": "sales"}) is None


@pytest.mark.parametrize("record_url", ["postgresql"], indirect=True)
@pytest.mark.postgres
def test_a_statement_that_is_none_is_told_as_one(record: Record) -> None:
    with pytest.raises(ProgrammingError), record.store.write() as tx:
        Compiled(text("SELECT nothing FROM nowhere")).rows(tx, {})
