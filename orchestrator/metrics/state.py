"""What stands in the store, read when somebody asks.

A metric to add is a function in ``READINGS``. It asks only what an index answers, or is ``sparing``: then it is asked
so seldom that it costs one per cent of the time at most.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection, func, select

from orchestrator.bindings import health
from orchestrator.builtin.inbox import DeliveryState
from orchestrator.kernel import question_store, run_queries
from orchestrator.kernel.run_times import Now, now_of
from orchestrator.ledger import effect_store
from orchestrator.ledger.states import State
from orchestrator.metrics.measures import PREFIX
from orchestrator.record.clock import moment
from orchestrator.record.heartbeat import WORKER, last_beat
from orchestrator.record.record import Record
from orchestrator.record.tables import inbox

Reading = Callable[[Connection, Now], Iterable[Metric]]
SHARE_OF_TIME = 0.01
_OPEN_EFFECTS = (State.ATTEMPTING, State.IN_DOUBT, State.NEEDS_DECISION)
logger = logging.getLogger(__name__)


def sparing(reading: Reading, clock: Callable[[], float] = time.perf_counter) -> Reading:
    """Return a reading that repeats what it found until its cost is one per cent of the time since.

    Args:
        reading: What costs.
        clock: Tells the time, in seconds.
    """
    found: list[Metric] = []
    again_at = -float("inf")

    def read(tx: Connection, now: Now) -> Iterable[Metric]:
        nonlocal again_at
        began = clock()
        if began >= again_at:
            found[:] = reading(tx, now)
            again_at = clock() + (clock() - began) / SHARE_OF_TIME
        return tuple(found)

    return read


def open_runs(tx: Connection, now: Now) -> Iterator[Metric]:
    """Count the runs that have not finished, and tell for how long the oldest has been due."""
    metric = GaugeMetricFamily(f"{PREFIX}runs", "Runs that have not finished.", labels=("process", "state"))
    for process, state, count in run_queries.count_unfinished(tx):
        metric.add_metric((process, state), count)
    yield metric
    oldest = _age(now, *run_queries.waiting_since(tx, now))
    yield _gauge("oldest_due_run_seconds", "For how long the oldest run waits for a worker.", oldest)


def finished_runs(tx: Connection, now: Now) -> Iterator[Metric]:  # noqa: ARG001 - a reading's signature
    """Count the runs that have finished; by process, they would all have to be read."""
    yield _gauge("finished_runs", "Runs that have finished.", run_queries.count_done(tx))


def waiting_for_people(tx: Connection, now: Now) -> Iterator[Metric]:
    """Count what waits for a person."""
    for name, state, text in (
        ("dead_letters", DeliveryState.DEAD_LETTER, "Webhook deliveries that are no input for their process."),
        ("mail_for_person", DeliveryState.FOR_PERSON, "Mail that waits for a person."),
    ):
        counted = select(func.count()).where(inbox.c.state == state)
        yield _gauge(name, text, tx.execute(counted).scalar_one())
    count, oldest = question_store.count_unanswered(tx)
    yield _gauge("open_decisions", "Questions that wait for an answer.", count)
    overdue = question_store.count_overdue(tx, now.wall)
    yield _gauge("overdue_decisions", "Those of them whose deadline has passed.", overdue)
    yield _gauge("oldest_open_decision_seconds", "For how long the oldest of them has waited.", _age(now, oldest))


def open_effects(tx: Connection, now: Now) -> Iterator[Metric]:  # noqa: ARG001
    """Count the effects whose outcome is not known."""
    metric = GaugeMetricFamily(f"{PREFIX}open_effects", "Effects whose outcome is not known.", labels=("state",))
    found = effect_store.count_by_state(tx, _OPEN_EFFECTS)
    for state in _OPEN_EFFECTS:
        metric.add_metric((state,), found.get(state, 0))
    yield metric


def mirror(tx: Connection, now: Now) -> Iterator[Metric]:
    """Tell how far Prefect lags behind."""
    count, oldest = run_queries.count_to_show(tx)
    yield _gauge("runs_to_show", "Runs that Prefect does not show as they are yet.", count)
    yield _gauge("oldest_run_to_show_seconds", "The age of the oldest of them.", _age(now, oldest))


def ailing_connections(tx: Connection, now: Now) -> Iterator[Metric]:  # noqa: ARG001
    """Tell the state of each connection that once did not work."""
    metric = GaugeMetricFamily(
        f"{PREFIX}connection_state", "1 for the state that a connection is in.", labels=("connection", "state")
    )
    for connection, state in health.states(tx):
        metric.add_metric((connection, state), 1)
    yield metric


def heartbeats(tx: Connection, now: Now) -> Iterator[Metric]:
    """Tell when a worker was last seen."""
    seen_at = last_beat(tx, WORKER)
    if seen_at is not None:
        age = max((now.wall - seen_at).total_seconds(), 0)
        yield _gauge("worker_seen_seconds", "How long ago a worker was seen alive.", age)


READINGS: tuple[Reading, ...] = (
    open_runs,
    waiting_for_people,
    open_effects,
    mirror,
    ailing_connections,
    heartbeats,
)
"""Read at every scrape."""


class StateMetrics(Collector):
    """The metrics that are read from the store.

    Args:
        record: What is read.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._readings = (*READINGS, sparing(finished_runs))

    def collect(self) -> Iterator[Metric]:
        """Read the store; if it cannot be read, say only that."""
        found: list[Metric] = []
        try:
            with self._record.store.read() as tx:
                now = now_of(self._record)
                found += [metric for reading in self._readings for metric in reading(tx, now)]
        except Exception as exc:  # noqa: BLE001 - whatever it is, the other metrics are worth having
            logger.warning("The store cannot be read for metrics: %s", type(exc).__name__)
            found.clear()
        yield _gauge("store_up", "Whether the store can be read.", bool(found))
        yield from found


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def _age(now: Now, *written: str | None) -> float:
    """Return the age of the oldest of these moments, 0 if there is none."""
    return max((max((now.wall - moment(each)).total_seconds(), 0) for each in written if each), default=0)
