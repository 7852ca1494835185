"""No look-up that people, workers or senders wait for reads more of a table the more there is in it.

The plans are asked for, not the time: on SQLite no step may scan a table or sort what it found, but for what the
newest rows of an index give; on PostgreSQL the same is asked with sequential scans and sorts made unattractive, so
that a plan that still holds one has no index to go by.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from prefect.client.orchestration import SyncPrefectClient
from sqlalchemy import Engine, event, text

from orchestrator.bootstrap import Application
from orchestrator.builtin.inbox import DeliveryState
from orchestrator.gateway.accepting import Acceptance
from orchestrator.kernel.resolution import open_effects
from orchestrator.kernel.runs import RunState
from orchestrator.outbound_limits.answers import _has_a_persons_word, _origin
from orchestrator.prefect_lane.mirror import PrefectMirror
from orchestrator.retention import InboxRetention
from tests.support.clock import HandClock
from tests.support.webhooks import HOOKS, arrival, configured, order

RUN = f"r-{arrival(order(1)).delivery[2:]}"
MAIL = """
[connections.post]
connector = "mail"
address = "shop@example.com"
smtp.host = "mail.example.com"
smtp.username = "shop"
smtp.password = "shop"
imap.host = "mail.example.com"
imap.username = "shop"
imap.password = "shop"
imap.sent_folder = "Sent"
"""
Statement = tuple[str, Any]
LARGE = ("audit_event", "audit_private", "run", "inbox", "effect", "customer_case", "subject_key", "question")


@pytest.fixture
def app(record_url: str, tmp_path: Path, clock: HandClock) -> Iterator[Application]:
    app = configured(tmp_path, record_url, HOOKS + MAIL, clock=clock)
    Acceptance(app.record, app.runs).accept([arrival(order(1))])
    yield app
    app.record.store.close()


def tail(app: Application) -> None:
    with app.record.store.read() as tx:
        app.record.trail.latest(tx, limit=20)


def show(app: Application) -> None:
    with app.record.store.read() as tx:
        events = app.record.trail.chain(tx, RUN)
        app.record.trail.private_values(tx, [each.event_id for each in events])


def customer(app: Application) -> None:
    with app.record.store.read() as tx:
        subject_ref = app.record.vault.find(tx, "ann1@example.com")
    app.runs.listed(subject_ref=subject_ref, limit=20)


def case(app: Application) -> None:
    app.cases.open_or_join("ann1@example.com", delivery=f"d-{RUN[2:]}", effect_id="f-1")


def answer(app: Application) -> None:
    with app.record.store.read() as tx:
        assert _origin(tx, RUN)
        assert not _has_a_persons_word(tx, RUN)


def prove(app: Application) -> None:
    for _ in ("remember the settings", "look for what was done"):
        app.proofs.look("post")


def mirror(app: Application) -> object:
    with httpx.Client() as http, SyncPrefectClient(app.settings.prefect.api_url) as client:
        return PrefectMirror(app, http, client)._marked()


LOOK_UPS: Mapping[str, Callable[[Application], object]] = {
    "a delivery comes in": lambda app: Acceptance(app.record, app.runs).accept([arrival(order(2), "evt_2")]),
    "a run is executed": lambda app: app.kernel.execute(app.definition("serve"), RUN),
    "a mail joins its case": case,
    "due runs": lambda app: app.runs.due(limit=8),
    "runs": lambda app: app.runs.listed(limit=20),
    "runs --state": lambda app: app.runs.listed(state=RunState.DONE, limit=20),
    "runs --customer": customer,
    "how many runs": lambda app: app.runs.count(state=RunState.DONE, at_most=1000),
    "how much mail": lambda app: app.inbox.count(at_most=1000),
    "inbox": lambda app: app.inbox.listed(limit=50),
    "inbox --state": lambda app: app.inbox.listed(state=DeliveryState.STARTED, limit=50),
    "decisions": lambda app: app.people.open_questions(),
    "deadlines": lambda app: app.people.pass_deadlines(),
    "an automatic answer": answer,
    "effects": lambda app: open_effects(app.record),
    "audit show": show,
    "audit tail": tail,
    "a probe is proven": prove,
    "the mirror": mirror,
    "retention": lambda app: InboxRetention(app.record, 1).vacuum(),
}
FEW = re.compile(r"^(effects|decisions|deadlines)$")
"""Lists of what is open: few, however long the record; they may be sorted."""


@contextmanager
def asked(engine: Engine) -> Iterator[list[Statement]]:
    """Collect what the database is asked in the block, as its driver hears it."""
    statements: list[Statement] = []

    def collect(statement: Any, parameters: Any = ()) -> None:
        if re.match(r"SELECT|UPDATE|DELETE", str(statement)):
            statements.append((str(statement), parameters))

    class Heard(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            collect(query, params or ())
            return super().execute(query, params, **options)

    def listen(connection: Any, _record: object) -> None:
        if engine.dialect.name == "sqlite":
            connection.set_trace_callback(collect)  # with the values in their places
        else:
            connection.cursor_factory = Heard

    engine.dispose()
    event.listen(engine, "connect", listen)
    yield statements
    event.remove(engine, "connect", listen)
    engine.dispose()


@pytest.mark.parametrize("look_up", LOOK_UPS)
def test_no_look_up_reads_more_the_more_there_is(app: Application, look_up: str) -> None:
    engine = app.record.store._engine
    with asked(engine) as statements:
        LOOK_UPS[look_up](app)
    assert statements
    slow = {plan for statement in statements for plan in growing(app, statement, may_sort=bool(FEW.match(look_up)))}
    assert slow == set()


def test_what_has_no_index_is_found_out(app: Application) -> None:
    statement = "SELECT run_id FROM run WHERE reason = 'none' ORDER BY owner LIMIT 1"
    assert growing(app, (statement, ()), may_sort=False)
    assert growing(app, ("SELECT event_id FROM audit_event WHERE kind = 'none'", ()), may_sort=True)


def growing(app: Application, statement: Statement, *, may_sort: bool) -> list[str]:
    """Return the steps of a statement's plan that take longer the larger the tables are."""
    sorts = [] if may_sort else [r"USE TEMP B-TREE FOR (ORDER BY|GROUP BY)", r"^\s*(->)?\s*Sort  \("]
    scans = [rf"^SCAN ({'|'.join(LARGE)})(?! USING (COVERING )?INDEX)\b", r"Seq Scan on (" + "|".join(LARGE) + r")\b"]
    whole = [rf"^SCAN ({'|'.join(LARGE)}) USING INDEX (?!ix_question_open)"] if "LIMIT" not in statement[0] else []
    bad = re.compile("|".join(scans + sorts + whole))
    return [f"{step.strip()}: {statement[0]}" for step in plan(app, *statement) if bad.search(step)]


def plan(app: Application, statement: str, parameters: Any) -> list[str]:
    with app.record.store.write() as tx:
        if app.record.store.dialect == "sqlite":
            return [row.detail for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        tx.execute(text("SET LOCAL enable_seqscan = off"))
        tx.execute(text("SET LOCAL enable_sort = off"))
        return [row[0] for row in tx.exec_driver_sql(f"EXPLAIN {statement}", parameters)]
