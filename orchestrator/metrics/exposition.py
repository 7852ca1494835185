"""Everything at once, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from orchestrator.metrics.measures import PREFIX, Measures
from orchestrator.metrics.sharing import shared
from orchestrator.metrics.state import StateMetrics
from orchestrator.record.record import Record

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Exposition:
    """The metrics of all processes of this machine, and of the store.

    Args:
        measures: What this process measures, if the processes do not share what they measure.
        record: The store.
    """

    def __init__(self, measures: Measures, record: Record) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_OfProcesses(measures))
        self._registry.register(StateMetrics(record))

    def text(self) -> bytes:
        """Return the metrics in the text format 0.0.4 (prometheus.io, "Exposition formats")."""
        return generate_latest(self._registry)


class _OfProcesses(Collector):
    def __init__(self, measures: Measures) -> None:
        self._measures = measures

    def collect(self) -> Iterator[Metric]:
        """Return what processes measured; not what libraries in them measure for themselves."""
        everybody = shared()
        metrics = self._measures.registry.collect() if everybody is None else everybody
        yield from (metric for metric in metrics if metric.name.startswith(PREFIX))
