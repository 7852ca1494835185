"""What only a database that many machines share can do wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier, BrokenBarrierError, Event, Thread

import psycopg
import pytest
from sqlalchemy import Connection, select, update
from sqlalchemy.exc import DBAPIError, OperationalError

from orchestrator.bootstrap import Application
from orchestrator.errors import LeaseLost
from orchestrator.gateway.accepting import Acceptance
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.lease import Lease
from orchestrator.kernel.runs import LEASE, RunState
from orchestrator.kernel.session import Session
from orchestrator.record.record import Record, open_record
from orchestrator.record.store import POOL_OVERFLOW, POOL_SIZE, repeated
from orchestrator.record.tables import run
from orchestrator.record.verify import verify
from orchestrator.retention import InboxRetention
from orchestrator.worker.dispatcher import Dispatcher
from tests.support.clock import HandClock
from tests.support.gateways import wait_until
from tests.support.kernel_bench import Bench, Errand, FakeSystem, send_link, send_one, watched
from tests.support.paths import ROOT
from tests.support.postgres import BLANK, PostgresServer
from tests.support.webhooks import HOOKS, arrival, configured, order

pytestmark = pytest.mark.postgres
SEND_ONE = ProcessDefinition("send-one", send_one)
SEND_LINK = ProcessDefinition("send-link", send_link, case_key=lambda errand: errand.email)
PRODUCTION = ROOT / "docs" / "production.md"


@pytest.fixture
def record_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database for a record, its schema made."""
    url = postgres_server.new_database(template=BLANK)
    yield url
    postgres_server.drop_database(url)


def test_workers_that_want_the_same_runs_execute_each_once(
    bench: Bench, system: FakeSystem, reopen: Callable[[], Record]
) -> None:
    """Two workers with four threads each, all at the same runs of three customers in the same order."""
    errands = [Errand(email=f"customer-{n % 3}@example.com") for n in range(12)]
    run_ids = [bench.open(SEND_LINK, errand) for errand in errands]
    workers = [Bench(reopen(), system, owner=f"worker-{n}") for n in range(2)]
    ready = Barrier(8)

    def work(number: int) -> int:
        ready.wait(timeout=30)
        done = 0
        for run_id in run_ids:
            with suppress(LeaseLost):
                workers[number % 2].kernel.execute(SEND_LINK, run_id)
                done += 1
        return done

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert {bench.run(run_id).state for run_id in run_ids} == {RunState.DONE}
    assert {bench.run(run_id).fence for run_id in run_ids} == {1}
    assert set(system.applied.values()) == {1}
    assert len(system.applied) == 2 * len(run_ids)


def test_transactions_that_wait_for_each_other_are_repeated_and_no_run_fails(
    bench: Bench, clock: HandClock, reopen: Callable[[], Record]
) -> None:
    """Each holds its own run and wants to change the other's: PostgreSQL undoes one of them."""
    run_ids = [bench.open(SEND_ONE) for _ in range(2)]
    benches = [Bench(reopen(), bench.system, owner=f"worker-{n}") for n in range(2)]
    both_hold = Barrier(2)
    tries: Counter[int] = Counter()

    def commit(number: int) -> None:
        mine, other = run_ids[number], run_ids[1 - number]
        taken = benches[number].runs.acquire(mine, f"worker-{number}", process="send-one")
        assert taken is not None
        lease = Lease(benches[number].record, taken, owner=f"worker-{number}", span=LEASE)
        session = Session(benches[number].record, lease, process_version="1")
        session.past()

        def change(tx: Connection) -> None:
            tries[number] += 1
            with suppress(BrokenBarrierError):  # the one that is repeated stands there alone
                both_hold.wait(timeout=5) if tries[number] == 1 else None
            tx.execute(update(run).where(run.c.run_id == other).values(reason=f"seen by {number}"))

        session.commit(session.draft("step.answered", {"number": number}), change=change)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(commit, range(2)))
    assert 2 in tries.values()
    assert {bench.run(run_id).reason for run_id in run_ids} == {"seen by 0", "seen by 1"}
    assert all(bench.kinds(run_id).count("step.answered") == 1 for run_id in run_ids)


def test_only_what_was_undone_for_another_ones_sake_is_repeated() -> None:
    tries: Counter[str] = Counter()

    def fail(kind: str, cause: Exception) -> None:
        tries[kind] += 1
        raise OperationalError("COMMIT", {}, cause)

    for kind, cause in {
        "conflict": psycopg.errors.SerializationFailure("no"),
        "lost": psycopg.errors.AdminShutdown("no"),
    }.items():
        with pytest.raises(OperationalError):
            repeated(lambda kind=kind, cause=cause: fail(kind, cause))  # type: ignore[misc]
    assert tries == {"conflict": 5, "lost": 1}


def test_deliveries_of_the_same_customers_in_opposite_order_are_all_accepted(
    tmp_path: Path, record_url: str, clock: HandClock
) -> None:
    """Two gateways, each with a group of new customers: whoever comes second waits for the other's customer."""
    apps = [configured(tmp_path, record_url, HOOKS, clock=clock) for _ in range(2)]
    for app in apps:
        app.record  # noqa: B018 - opened before the race
    numbers = list(range(20))
    groups = [
        [arrival(order(n), f"a-{n}") for n in numbers],
        [arrival(order(n), f"b-{n}") for n in reversed(numbers)],
    ]
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(
                lambda each: Acceptance(each[0].record, each[0].runs).accept(each[1]), zip(apps, groups, strict=True)
            )
        )
    assert len(apps[0].inbox.listed(limit=99)) == 2 * len(numbers)
    assert len({found.case_id for found in apps[0].runs.listed(limit=99)}) == len(numbers)
    for app in apps:
        app.record.store.close()


def test_a_process_holds_no_more_connections_than_it_may(record: Record) -> None:
    ready, enough = Barrier(POOL_SIZE + POOL_OVERFLOW + 1), Event()

    def hold(_number: int) -> None:
        with record.store.read() as tx:
            tx.execute(select(run)).all()
            ready.wait(timeout=30)
            enough.wait(timeout=30)

    with ThreadPoolExecutor(POOL_SIZE + POOL_OVERFLOW) as pool:
        holding = [pool.submit(hold, n) for n in range(POOL_SIZE + POOL_OVERFLOW)]
        ready.wait(timeout=30)
        assert record.store._engine.pool.checkedout() == POOL_SIZE + POOL_OVERFLOW  # type: ignore[attr-defined]
        enough.set()
        for each in holding:
            each.result()


# --- a server that goes away -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mortal() -> Iterator[PostgresServer]:
    """A server of this module's own, to be stopped."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def mortal_record(mortal: PostgresServer, tmp_path: Path, clock: HandClock) -> Iterator[Record]:
    record = open_record(mortal.new_database(), tmp_path / "key", clock)
    yield record
    record.store.close()


@pytest.mark.parametrize("commit", range(1, 5))
def test_a_run_whose_database_is_restarted_in_the_middle_of_a_commit_goes_on(
    mortal: PostgresServer, mortal_record: Record, clock: HandClock, commit: int
) -> None:
    system, seen = FakeSystem(), Counter[str]()
    run_id = Bench(mortal_record, system).open(SEND_LINK)

    def restart(kind: str) -> None:
        seen[kind] += 1
        if kind == "commit" and seen[kind] == commit:
            mortal.crash()
            mortal.start()

    bench = Bench(watched(mortal_record, restart), system)
    with pytest.raises(OperationalError):
        bench.kernel.execute(SEND_LINK, run_id)
    assert bench.run(run_id).state is (RunState.READY if commit == 1 else RunState.RUNNING)
    clock.advance(minutes=10)
    assert bench.runs.due(limit=9) == [run_id]
    bench.kernel.execute(SEND_LINK, run_id)
    assert bench.run(run_id).state is RunState.DONE
    assert set(system.applied.values()) == {1}
    with mortal_record.store.read() as tx:
        assert verify(tx).breaches == ()


def test_a_restart_between_two_transactions_is_not_even_noticed(mortal: PostgresServer, mortal_record: Record) -> None:
    system = FakeSystem()

    def restart() -> None:
        mortal.crash()
        mortal.start()

    system.after.extend([None, None, restart])  # the mail was sent
    bench = Bench(mortal_record, system)
    run_id = bench.open(SEND_LINK)
    bench.kernel.execute(SEND_LINK, run_id)
    assert (bench.run(run_id).state, bench.run(run_id).fence) == (RunState.DONE, 1)


def test_a_worker_outlives_a_restart_of_its_database(record_url: str, mortal: PostgresServer, tmp_path: Path) -> None:
    app = configured(tmp_path, mortal.new_database(), "[worker]\nlease_seconds = 1\n" + HOOKS)
    accept = Acceptance(app.record, app.runs).accept
    accept([arrival(order(1), "evt_1")])
    stop = Event()
    thread = Thread(target=Dispatcher(app, stop).run, name="sweep")
    thread.start()
    wait_until(lambda: _done(app) == 1)
    mortal.crash()
    with pytest.raises(DBAPIError):
        accept([arrival(order(2), "evt_2")])
    mortal.start()
    accept([arrival(order(2), "evt_2")])
    wait_until(lambda: _done(app) == 2)
    stop.set()
    app.work_waits.wake()
    thread.join(30)
    app.record.store.close()


def _done(app: Application) -> int:
    return len(app.runs.listed(state=RunState.DONE, limit=9))


# --- a role that may not rewrite history -------------------------------------------------------------------------


@pytest.fixture
def limited(postgres_server: PostgresServer, record_url: str, record: Record) -> str:
    """The URL of the same database for the role that docs/production.md makes."""
    (granting,) = re.findall(r"```sql\n(.*?)```", PRODUCTION.read_text(), flags=re.DOTALL)
    with psycopg.connect(record_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("DROP OWNED BY orchestrator" if _has_role(connection) else "SELECT 1")
        connection.execute("DROP ROLE IF EXISTS orchestrator")
        connection.execute(granting)
    return record_url.replace("tester@", "orchestrator@")


def _has_role(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    return connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'orchestrator'").fetchone() is not None


def test_everything_works_with_a_role_that_may_only_add_to_the_record(
    limited: str, tmp_path: Path, clock: HandClock
) -> None:
    app = configured(tmp_path, limited, HOOKS, clock=clock)
    app.settings.store.key_file.parent.mkdir(exist_ok=True)
    (accepted,) = Acceptance(app.record, app.runs).accept([arrival(order(1))])
    app.kernel.execute(app.definition("serve"), f"r-{accepted.delivery[2:]}")
    clock.advance(days=2)
    assert InboxRetention(app.record, 1).vacuum().deliveries == 1
    run_id = Bench(app.record, FakeSystem()).open(SEND_LINK)
    Bench(app.record, FakeSystem()).kernel.execute(SEND_LINK, run_id)
    with app.record.store.read() as tx:
        assert verify(tx).breaches == ()
    app.record.store.close()


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE audit_event SET kind = 'x'",
        "DELETE FROM audit_event",
        "TRUNCATE audit_event",
        "ALTER TABLE audit_event DISABLE TRIGGER ALL",
        "DROP TRIGGER audit_event_append_only ON audit_event",
        "DROP TABLE audit_event",
        "CREATE OR REPLACE FUNCTION audit_event_append_only() RETURNS trigger LANGUAGE sql AS 'SELECT 1'",
        "UPDATE alembic_version SET version_num = '9999'",
        "SET session_replication_role = replica",
    ],
)
def test_that_role_cannot_change_what_was_written(limited: str, attack: str) -> None:
    with (
        psycopg.connect(limited.replace("+psycopg", "")) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(attack)
