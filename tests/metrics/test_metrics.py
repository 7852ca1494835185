from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection, event, insert

from orchestrator.bindings.guard import ConnectionState
from orchestrator.bootstrap import Application
from orchestrator.errors import RunParked
from orchestrator.kernel.run_times import now_of
from orchestrator.metrics import Exposition
from orchestrator.metrics.state import READINGS, StateMetrics, sparing
from orchestrator.record.clock import stamp
from orchestrator.record.heartbeat import WORKER, Heartbeat
from orchestrator.record.record import Record
from orchestrator.record.tables import run
from tests.support.app_with_fakes import ANNA, Office
from tests.support.clock import HandClock
from tests.support.gateways import serve
from tests.support.kernel_bench import ANN
from tests.support.paths import ROOT
from tests.support.webhooks import HOOKS, configured

Samples = dict[str, float]


def samples(exposed: bytes) -> Samples:
    """Return each series, with its labels in the order of their names, and its value."""
    found: Samples = {}
    for family in text_string_to_metric_families(exposed.decode()):
        for sample in family.samples:
            labels = ",".join(value for _, value in sorted(sample.labels.items()))
            found[f"{sample.name.removeprefix('orchestrator_')}({labels})"] = sample.value
    return found


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    opened = Office(tmp_path)
    yield opened
    opened.app.record.store.close()


def exposed(app: Application) -> Samples:
    return samples(Exposition(app.measures, app.record).text())


def test_what_waits_and_what_went_how_is_told(office: Office) -> None:
    office.serve(ANNA)
    office.ask()
    office.doubt()
    office.receive("Hello")
    Heartbeat(office.app.record, WORKER).beat()
    found = exposed(office.app)
    expected = {
        "store_up()": 1,
        "runs(lost-download,parked)": 2,
        "finished_runs()": 2,
        "executions_total(lost-download,done)": 1,
        "executions_total(lost-download,parked)": 2,
        "oldest_due_run_seconds()": 0,
        "mail_for_person()": 1,
        "dead_letters()": 0,
        "open_decisions()": 1,
        "open_effects(needs-decision)": 1,
        "open_effects(in-doubt)": 0,
        "runs_to_show()": 4,
        "attempts_total(outbox,mailer.send,done,lost-download)": 1,
        "attempts_total(outbox,mailer.send,Unavailable,lost-download)": 1,
        "attempts_total(host,people.decide,AwaitingDecision,lost-download)": 1,
        "step_seconds_count(shop,order_records.purchases_of,done,lost-download)": 3,
        "step_seconds_count(outbox,mailer.send,RunParked,lost-download)": 1,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert 0 <= found["worker_seen_seconds()"] < 60
    assert found["step_seconds_sum(shop,order_records.purchases_of,done,lost-download)"] > 0


def test_labels_hold_names_alone_and_so_there_are_few(office: Office) -> None:
    before = len(exposed(office.app))
    for number in range(5):
        office.serve(f"stranger-{number}@example.com")
    once = exposed(office.app)
    for number in range(5):
        office.serve(f"another-{number}@example.com")
    assert before < len(once) == len(exposed(office.app))
    assert "@" not in Exposition(office.app.measures, office.app.record).text().decode()


def test_steps_that_the_record_answers_are_not_measured(office: Office) -> None:
    run_id, _ = office.ask()
    before = exposed(office.app)
    office.app.runs.resume(run_id, ANN)
    with pytest.raises(RunParked):
        office.app.kernel.execute(office.app.definition("lost-download"), run_id)
    after = exposed(office.app)
    changed = {name for name in after if "step_seconds_count" in name and after[name] != before.get(name)}
    assert changed == {"step_seconds_count(host,people.decide,AwaitingDecision,lost-download)"}


def test_calls_are_measured_and_refused_ones_counted(tmp_path: Path) -> None:
    app = configured(tmp_path, text=HOOKS)
    with serve(app) as served:
        served.shop(1)
        served.post(b"{}", "/hooks/shop")
        served.post(b"{}", "/hooks/anna@example.com")
        response = served.client.get("/metrics")
    app.record.store.close()
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = samples(response.content)
    assert found["accept_seconds_count(shop)"] == 1
    assert found["calls_refused_total(signature,shop)"] == 1
    assert found["calls_refused_total(signature,(unknown))"] == 1
    assert found["runs(serve,ready)"] == 1


def test_the_ages_of_what_waits_are_told(record: Record, clock: HandClock) -> None:
    Heartbeat(record, WORKER).beat()
    with record.store.write() as tx:
        tx.execute(insert(run), [row(1, clock, "ready"), row(2, clock, "running", lease=10), row(3, clock, "done")])
    clock.advance(seconds=30)
    found = {metric.name: metric.samples[0].value for metric in StateMetrics(record).collect() if metric.samples}
    assert found["orchestrator_oldest_due_run_seconds"] == 30
    assert found["orchestrator_worker_seen_seconds"] == 30
    clock.advance(seconds=30)
    with record.store.write() as tx:
        tx.execute(run.update().where(run.c.state == "ready").values(state="parked"))
    found = {metric.name: metric.samples[0].value for metric in StateMetrics(record).collect() if metric.samples}
    assert found["orchestrator_oldest_due_run_seconds"] == 50


def row(number: int, clock: HandClock, state: str, *, lease: float | None = None) -> dict[str, object]:
    return {
        "run_id": f"r-{number}",
        "process": "lost-download",
        "subject_ref": "s-1",
        "state": state,
        "created_at": stamp(clock()),
        "due_at": stamp(clock()),
        "lease_until": stamp(clock() + timedelta(seconds=lease)) if lease else None,
    }


def test_a_store_that_is_gone_is_told_beside_the_other_metrics(office: Office, tmp_path: Path) -> None:
    office.serve(ANNA)
    office.app.record.store.close()
    for file in tmp_path.glob("record.db*"):
        file.unlink()
    (tmp_path / "record.db").mkdir()
    found = exposed(office.app)
    assert found["store_up()"] == 0
    assert found["attempts_total(outbox,mailer.send,done,lost-download)"] == 1


def test_each_reading_is_answered_by_an_index(record: Record) -> None:
    if record.store.dialect != "sqlite":
        pytest.skip("PostgreSQL reads small tables whole, index or not")
    with record.store.read() as tx:
        plans = [plan for reading in READINGS for plan in plans_of(reading, tx, record)]
    whole = {plan for plan in plans if plan.startswith("SCAN") and "USING" not in plan}
    assert len(plans) > len(READINGS)
    assert whole <= {"SCAN heartbeat", "SCAN connection_state"}


def plans_of(reading: Any, tx: Connection, record: Record) -> list[str]:
    """Return how SQLite goes about the statements of a reading."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: Any) -> None:
        asked.append((statement, parameters))

    event.listen(tx, "before_cursor_execute", note)
    list(reading(tx, now_of(record)))
    event.remove(tx, "before_cursor_execute", note)
    return [
        plan.detail
        for statement, parameters in asked
        for plan in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
    ]


def test_a_costly_reading_is_repeated_until_it_costs_one_per_cent_of_the_time(record: Record) -> None:
    now = itertools.count()  # each look at the clock takes a second
    read: list[int] = []

    def costly(_tx: Connection, _now: datetime) -> list[Metric]:
        read.append(len(read))
        return []

    spared = sparing(costly, lambda: float(next(now)))
    with record.store.read() as tx:
        for _ in range(400):
            spared(tx, record.clock())
    assert 2 <= len(read) <= 4


SHARING = """
import sys
from pathlib import Path
from orchestrator.kernel.instrumentation import Measured
from orchestrator.metrics import Measures, share
share(Path(sys.argv[1]))
Measures().attempt(Measured(process="p", connection="c", operation="o"), "done")
"""


def test_processes_add_up_what_they_measure_and_one_started_again_counts_on(tmp_path: Path) -> None:
    for _ in range(3):
        subprocess.run([sys.executable, "-c", SHARING, tmp_path], check=True, timeout=60)
    both = f"{SHARING}import subprocess; subprocess.run([sys.executable, '-c', sys.argv[2], *sys.argv[1:]], check=True)"
    subprocess.run([sys.executable, "-c", both, tmp_path, SHARING], check=True, timeout=60)
    assert {file.name for file in tmp_path.glob("*.db")} == {"counter_0.db", "counter_1.db"}
    told = f"""{SHARING}
from orchestrator.metrics.sharing import shared
print([sample.value for metric in shared() for sample in metric.samples])"""
    done = subprocess.run([sys.executable, "-c", told, tmp_path], capture_output=True, check=True, timeout=60)
    assert done.stdout.split() == [b"[6.0]"]


def test_the_manual_names_every_metric_and_no_other(office: Office) -> None:
    office.app.health.report("shop", ConnectionState.DOWN, "it is down")
    office.serve(ANNA)
    Heartbeat(office.app.record, WORKER).beat()
    text = Exposition(office.app.measures, office.app.record).text().decode()
    families = [family for family in text_string_to_metric_families(text) if not family.name.endswith("_created")]
    exposed = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    manual = (ROOT / "docs" / "operating.md").read_text()
    table = manual.partition("### Alarms")[0]
    assert set(re.findall(r"^\| `(orchestrator_\w+)`", table, re.MULTILINE)) == exposed
    asked = set(re.findall(r"orchestrator_\w+", manual.partition("### Alarms")[2].partition("## Logs")[0]))
    assert {name.removesuffix("_bucket") for name in asked} <= exposed
