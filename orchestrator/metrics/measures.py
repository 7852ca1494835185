"""What only the processes know: how long things took, and how often they were tried.

A metric to add is a field of ``Measures``. Its labels hold names from configuration and code alone, of which there are
few: never an id, an address or a text.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from orchestrator.kernel.instrumentation import Measured

PREFIX = "orchestrator_"
ACCEPT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0)
STEP_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_STEP = ("process", "connection", "operation", "outcome")


class Measures:
    """The measurements of one process; also the kernel's ``Meter``."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._accept = Histogram(
            f"{PREFIX}accept_seconds",
            "From the first byte of a webhook call to its being stored.",
            ("webhook",),
            buckets=ACCEPT_BUCKETS,
            registry=registry,
        )
        self._refused = Counter(
            f"{PREFIX}calls_refused",
            "Webhook calls that were refused, by reason.",
            ("webhook", "reason"),
            registry=registry,
        )
        self._executions = Counter(
            f"{PREFIX}executions",
            "Executions of runs, by the state that they left the run in; 'ready' goes on later by itself.",
            ("process", "state"),
            registry=registry,
        )
        self._step = Histogram(
            f"{PREFIX}step_seconds",
            "Steps that runs took, their record included; outcome is 'done' or an error's name.",
            _STEP,
            buckets=STEP_BUCKETS,
            registry=registry,
        )
        self._attempts = Counter(
            f"{PREFIX}attempts", "Calls of systems, repeated ones too, by how they went.", _STEP, registry=registry
        )
        self._restarts = Counter(
            f"{PREFIX}restarts", "Processes that `orchestrator up` started again.", ("child",), registry=registry
        )

    def accepted(self, webhook: str, seconds: float) -> None:
        """Note a webhook call that was accepted."""
        self._accept.labels(webhook).observe(seconds)

    def refused(self, webhook: str, reason: str) -> None:
        """Note a webhook call that was refused."""
        self._refused.labels(webhook, reason).inc()

    def execution(self, process: str, state: str) -> None:
        """Note an execution of a run."""
        self._executions.labels(process, state).inc()

    def step(self, measured: Measured, outcome: str, seconds: float) -> None:
        """Note a step."""
        self._step.labels(measured.process, measured.connection, measured.operation, outcome).observe(seconds)

    def attempt(self, measured: Measured, outcome: str) -> None:
        """Note a call of a system."""
        self._attempts.labels(measured.process, measured.connection, measured.operation, outcome).inc()

    def restarted(self, child: str) -> None:
        """Note that a process was started again."""
        self._restarts.labels(child).inc()
