"""Several gateways and workers on one PostgreSQL: some are killed in the middle, and nobody outside notices."""

from __future__ import annotations

import email
import imaplib
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from shutil import which
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update

from orchestrator.bootstrap import Application
from orchestrator.kernel.runs import Run, RunState
from orchestrator.prefect_lane.auth import left_open, refused
from orchestrator.prefect_lane.states import TAG
from orchestrator.prefect_lane.vacuum import PrefectRetention
from orchestrator.record.clock import utc_now
from orchestrator.record.tables import effect, run
from orchestrator.record.verify import verify
from orchestrator.sandbox.shop import ONE_PURCHASE, THREE_PURCHASES
from orchestrator.sandbox.systems import PASSWORD
from orchestrator.settings import RetentionSettings
from tests.support.cluster import START_SECONDS, Cluster, Gateways, cluster
from tests.support.deep import cases
from tests.support.gateways import PATIENCE_SECONDS, wait_until
from tests.support.postgres import PostgresServer

# Two cores carry four programs of ours, Prefect, PostgreSQL and Redis at once.
pytestmark = [
    pytest.mark.postgres,
    pytest.mark.flaky(reruns=2),
    pytest.mark.skipif(not which("redis-server"), reason="needs Redis; Debian: apt-get install redis-server"),
]
DELIVERIES = cases(40, 1000)
CUSTOMERS = (ONE_PURCHASE, THREE_PURCHASES)
SENDERS = 8
OURS = {"flow_runs": {"tags": {"all_": [TAG]}}}


@dataclass
class Day:
    """What happened."""

    cluster: Cluster
    taken: list[str]
    """The delivery that each call was answered with; each came twice."""
    held: set[str]
    """The runs that the killed worker was executing."""
    runs: list[Run]


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Iterator[Day]:
    """Two of each; in the load, one of each is killed: one that only executes runs."""
    with cluster(tmp_path_factory.mktemp("cluster"), postgres_server) as made, ThreadPoolExecutor(SENDERS) as senders:
        gateways = Gateways(made, 2)
        made.start("worker", name="worker")
        runner = made.start("worker", "--only-runs", name="runner")
        gateways.wait()
        numbers = [number for number in range(DELIVERIES) for _ in range(2)]
        sending = [senders.submit(gateways.deliver, n, CUSTOMERS[n % 2]) for n in numbers]
        wait_until(lambda: _answered(sending) >= len(numbers) // 4, START_SECONDS)
        gateways.running[0].send_signal(signal.SIGKILL)
        held = made.kill_at_work(runner)
        taken = [each.result() for each in sending]
        wait_until(lambda: _count(made.app, RunState.DONE) == DELIVERIES, START_SECONDS)
        gateways.close()
        yield Day(cluster=made, taken=taken, held=held, runs=made.app.runs.listed(limit=10**6))


def _answered(sending: list[Future[str]]) -> int:
    return sum(each.done() for each in sending)


def _count(app: Application, *states: RunState) -> int:
    with app.record.store.read() as tx:
        return int(tx.execute(select(func.count()).where(run.c.state.in_(states))).scalar_one())


def test_every_call_that_was_answered_has_its_run_and_no_run_is_too_many(day: Day) -> None:
    assert set(Counter(day.taken).values()) == {2}
    assert {f"r-{delivery[2:]}" for delivery in day.taken} == {run.run_id for run in day.runs}
    assert len(day.cluster.app.inbox.listed(limit=10**6)) == DELIVERIES


def test_every_delivery_was_answered_by_exactly_one_mail(day: Day) -> None:
    with day.cluster.app.record.store.read() as tx:
        rows = tx.execute(select(effect.c.run_id, effect.c.effect_id).where(effect.c.operation == "send")).all()
    assert sorted(row.run_id for row in rows) == sorted(run.run_id for run in day.runs)
    ids = Counter(name for customer in CUSTOMERS for name in _message_ids(day.cluster, customer))
    assert ids == Counter(f"<{row.effect_id}@shop.example>" for row in rows)


def _message_ids(cluster: Cluster, address: str) -> list[str]:
    with imaplib.IMAP4("127.0.0.1", cluster.mail.imap_port) as imap:
        imap.login(address, PASSWORD)
        imap.select("INBOX", readonly=True)
        _, found = imap.fetch("1:*", "(BODY.PEEK[HEADER])")
    return [str(email.message_from_bytes(part[1])["Message-ID"]) for part in found if isinstance(part, tuple)]


def test_what_the_killed_worker_was_doing_was_taken_over(day: Day) -> None:
    assert day.held
    fences = {run.run_id: run.fence for run in day.runs}
    assert all(fences[run_id] > 1 for run_id in day.held)


def test_everything_verifies(day: Day) -> None:
    with day.cluster.app.record.store.read() as tx:
        found = verify(tx)
    assert found.breaches == ()
    assert found.chains >= DELIVERIES


def _in_prefect(day: Day) -> list[dict[str, Any]]:
    return list(day.cluster.prefect.ask("/flow_runs/filter", {**OURS, "limit": 200}))


def test_prefect_on_postgresql_and_redis_shows_every_run_once(day: Day) -> None:
    """What happened to them goes from the API through Redis to the services, which write it down."""
    day.cluster.prefect.wait()
    shown = min(DELIVERIES, 200)
    wait_until(lambda: len(_in_prefect(day)) >= shown, START_SECONDS)
    names = [flow_run["name"] for flow_run in _in_prefect(day)]
    assert len(set(names)) == len(names) == shown
    assert set(names) <= {run.run_id for run in day.runs}
    written = {"filter": {"event": {"name": ["prefect.flow-run.Completed"]}}}
    wait_until(lambda: day.cluster.prefect.ask("/events/filter", written)["total"] >= shown)


def test_a_server_on_postgresql_lets_us_in_by_the_documented_auth_string_and_nobody_without(day: Day) -> None:
    assert (left_open(day.cluster.app.settings), refused(day.cluster.app.settings)) == ([], [])
    assert httpx.post(f"{day.cluster.prefect.api_url}/flow_runs/filter", json={}).status_code == 401


def test_flow_runs_are_deleted_by_rule_but_for_those_that_wait_for_a_person(day: Day) -> None:
    wait_until(lambda: _unshown(day.cluster.app) == 0, START_SECONDS)
    app = day.cluster.app
    waiting = app.runs.listed(limit=1)[0]
    with app.record.store.write() as tx:
        tx.execute(update(run).where(run.c.run_id == waiting.run_id).values(state=RunState.PARKED))
    kept = app.settings.model_copy(update={"retention": RetentionSettings(prefect_days=1)})
    now = [utc_now()]
    later = Application(kept, clock=lambda: now[0])
    before = int(day.cluster.prefect.ask("/flow_runs/count", OURS))
    assert before == DELIVERIES
    prefect = day.cluster.prefect
    with httpx.Client(base_url=prefect.api_url, headers=prefect.headers, timeout=PATIENCE_SECONDS) as http:
        assert PrefectRetention(later, http).vacuum(lambda seconds: False) == 0
        now[0] += timedelta(days=2)
        assert PrefectRetention(later, http).vacuum(lambda seconds: False) == before - 1
    assert [flow_run["name"] for flow_run in _in_prefect(day)] == [waiting.run_id]
    tables = day.cluster.prefect.ask("/artifacts/filter", {})
    assert {each["flow_run_id"] for each in tables} == {flow_run["id"] for flow_run in _in_prefect(day)}
    with app.record.store.read() as tx:
        told = [event.data for event in app.record.trail.latest(tx, limit=50) if event.kind == "prefect.vacuumed"]
    assert sum(each["flow_runs"] for each in told) == before - 1
    later.record.store.close()


def _unshown(app: Application) -> int:
    with app.record.store.read() as tx:
        return int(tx.execute(select(func.count()).where(run.c.mirror != "shown")).scalar_one())
