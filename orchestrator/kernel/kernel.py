"""Executes runs: every one, however it was started, from its record and onto its record."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection

from orchestrator.capabilities import SEAL, UNSEAL
from orchestrator.errors import (
    AccessDenied,
    AwaitingDecision,
    ConfigurationError,
    Diverged,
    LeaseLost,
    NotRecorded,
    OrchestratorError,
    PluginError,
    RateLimited,
    RecordError,
    RunCancelled,
    RunFailed,
    RunParked,
    RunPostponed,
    Unbound,
)
from orchestrator.kernel import cases, queue
from orchestrator.kernel.admission import Held
from orchestrator.kernel.cancellation import end_cancelled
from orchestrator.kernel.codec import unsealer
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.history import RecordedRun, read_past
from orchestrator.kernel.instrumentation import Meter, NullMeter
from orchestrator.kernel.lease import Lease
from orchestrator.kernel.lease_renewal import Holding
from orchestrator.kernel.run_model import Release, Run
from orchestrator.kernel.run_states import ENDED, Cause, Mirror, RunState, advance
from orchestrator.kernel.run_times import due_in
from orchestrator.kernel.runs import ClaimResult, Runs, waits_for_process
from orchestrator.kernel.session import Change, Session
from orchestrator.kernel.steps import Bound, Plain, RecordedCapability, Steps, StepWindow, where
from orchestrator.ledger.ledger import Ledger
from orchestrator.logs import about
from orchestrator.record.record import Record
from orchestrator.record.store import UNWRITABLE
from orchestrator.record.trail import Draft, Sealer
from orchestrator.record.wakeup import wake_on_commit

MOST_DEATHS = 4
"""A run whose owners died so often in a row, without getting on in between, waits for a person."""
PATIENCE = 12
"""A run that was postponed so often in a row waits for a person."""

Binder = Callable[[str, type], Bound]
"""Tells what answers a need of a process: ``binder(process, protocol)``."""
LedgerFactory = Callable[[Session], Ledger]


class Kernel:
    """Executes runs.

    Args:
        record: Where everything is written down.
        runs: Leases runs.
        binder: Joins processes and systems.
        owner: A name for this worker that no other one has.
        ledger: Makes the ledger of a session.
        meter: Measures steps.
        stopping: Tells whether this worker stops: then runs are let go before their next step.
        renew_every: Leases are looked after so often; a run that is quicker costs nothing.
    """

    def __init__(
        self,
        record: Record,
        runs: Runs,
        binder: Binder,
        *,
        owner: str,
        ledger: LedgerFactory = Ledger,
        meter: Meter | None = None,
        stopping: Callable[[], bool] = lambda: False,
        renew_every: timedelta | None = None,
    ) -> None:
        self._record = record
        self._runs = runs
        self._binder = binder
        self._owner = owner
        self._ledger = ledger
        self._meter = meter or NullMeter()
        self._stopping = stopping
        self.holding = Holding(renew_every)
        """The runs that are executed here."""

    def execute(self, definition: ProcessDefinition, run_id: str, window: StepWindow | None = None) -> Any:
        """Execute a run to its end, or as far as it gets; steps already done are answered from the record.

        Args:
            definition: The run's process.
            run_id: The run.
            window: Where its steps are shown.

        Returns:
            The result of the process; of a finished run, the recorded one.

        Raises:
            RunPostponed: It goes on later by itself.
            RunParked: It waits for a person.
            RunFailed: The process raised an error of its own.
            RunCancelled: A person cancelled it.
            LeaseLost: Another worker has it.
            NotRecorded: There is no such run of this process.
            sqlalchemy.exc.OperationalError: The record cannot be written now; the run goes on later by itself.
        """
        if run_id in self.holding.runs():
            raise LeaseLost(f"run {run_id}: this worker executes it already")
        run = self._runs.acquire(run_id, self._owner, process=definition.name)
        if run is None:
            return self._result_of(definition, run_id)
        return self.go_on(definition, run, window)

    def claim(self, *, most: int, processes: Collection[str]) -> ClaimResult:
        """Lease runs of these processes that wait for a worker, oldest first, at most so many."""
        return self._runs.claim(self._owner, limit=most, processes=processes, held=self.holding.runs())

    def go_on(self, definition: ProcessDefinition, run: Run, window: StepWindow | None = None) -> Any:
        """Execute a run that ``claim`` leased; else as ``execute``."""
        lease = Lease(self._record, run, owner=self._owner, span=self._runs.lease)
        session = Session(self._record, lease, process_version=definition.version, stopping=self._stopping)
        window = window or Plain()
        session.mirror = Mirror.SHOWN if window.shows_end else Mirror.DUE
        try:
            with about(run=run.run_id, case=run.case_id, process=run.process), self.holding.held(lease):
                return self._run_body(definition, session, window)
        except (LeaseLost, MemoryError, *UNWRITABLE):
            # Nothing can be written, or nothing may be: once its lease has lapsed, the run goes on from its record.
            raise
        except RunCancelled:
            session.commit(change=lambda tx: end_cancelled(self._record, tx, run.run_id))
            raise
        except RunPostponed as exc:
            raise self._postpone(session, exc) from exc
        except (AccessDenied, Unbound) as exc:
            raise self._wait_for_mending(session, exc) from exc
        except (RunParked, AwaitingDecision, Diverged, RecordError) as exc:
            raise self._park(session, exc) from exc
        except OrchestratorError as exc:
            raise self._fail(session, f"{type(exc).__name__}: {exc}") from exc
        except Exception as exc:  # noqa: BLE001 - whatever a process raises ends its run, never the worker
            # Its message may hold anything: only the kind and the place are written down.
            raise self._fail(session, f"{type(exc).__name__} at {where(exc)}") from None

    def _run_body(self, definition: ProcessDefinition, session: Session, window: StepWindow) -> Any:
        past = session.past()
        _refuse_lethal(session.run)
        told = read_past(past.events)
        steps = Steps(session, self._ledger(session), told, past.private, window, self._meter)
        needs = self._needs(definition, session, steps)
        result = definition.run(_request(definition, told, past.private), needs)
        steps.go_on()
        if steps.left_out:
            raise Diverged("the process ended before the steps that its record holds: it changed while under way")
        self._finish(definition, session, result, answered=steps.answered)
        return result

    def _needs(self, definition: ProcessDefinition, session: Session, steps: Steps) -> dict[str, RecordedCapability]:
        """Return what the body needs, before anything is done; or say all that is missing."""
        given, missing = {}, []
        for name, protocol in definition.needs.items():
            try:
                bound = self._binder(definition.name, protocol)
            except (ConfigurationError, PluginError) as exc:
                missing.append(str(exc))
            else:
                given[name] = RecordedCapability(bound, steps)
        if missing:
            session.waits_for = waits_for_process(definition.name)
            raise Unbound("; ".join([*missing, "then restart the service, and the run goes on by itself"]))
        return given

    def _finish(self, definition: ProcessDefinition, session: Session, result: Any, *, answered: bool) -> None:
        run, sealer, now = session.run, Sealer(), self._record.clock()
        data = {"result": definition.result.dump_python(result, mode="json", context={SEAL: sealer})}

        def served(tx: Connection) -> None:
            if run.case_id is not None:
                cases.served(tx, run.case_id, run.run_id, now, answered=answered)

        self._end(session, Cause.FINISH, session.draft("run.finished", data, sealer=sealer), also=served)

    def _postpone(self, session: Session, wait: RunPostponed) -> Exception:
        # To wait as a system asks is no sign of trouble.
        well = session.progressed or isinstance(wait.__cause__, RateLimited)
        count = 0 if well else session.run.postponed + 1
        if count >= PATIENCE:
            return self._park(session, RunParked(f"tried {PATIENCE} times: {wait}"), postponed=count - 1)
        due = due_in(self._record, wait.due_at - session.now())
        draft = session.draft("run.postponed", {"reason": str(wait), "due_at": due["due_at"]})
        self._end(session, Cause.POSTPONE, draft, reason=str(wait), postponed=count, due=due)
        return wait

    def _wait_for_mending(self, session: Session, lacking: AccessDenied | Unbound) -> RunParked:
        """Park until what it lacks is there again; a look that proves too little does not go on for ever."""
        count = 0 if session.progressed else session.run.postponed + 1
        if count >= PATIENCE:
            session.waits_for = None
        return self._park(session, lacking, postponed=count)

    def _park(self, session: Session, reason: Exception, postponed: int = 0) -> RunParked:
        message = str(reason)
        draft = session.draft("run.parked", {"reason": message, "error": type(reason).__name__})
        also = reason.also if isinstance(reason, Held) else None
        self._end(session, Cause.PARK, draft, reason=message, also=also, postponed=postponed)
        return RunParked(message)

    def _fail(self, session: Session, message: str) -> RunFailed:
        self._end(session, Cause.FAIL, session.draft("run.failed", {"reason": message}), reason=message)
        return RunFailed(f"run {session.run.run_id} failed: {message}")

    def _end(
        self,
        session: Session,
        cause: Cause,
        draft: Draft,
        *,
        also: Change | None = None,
        reason: str = "",
        postponed: int = 0,
        due: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Give the run back, in the transaction that says why."""
        run, state = session.run, advance(RunState.RUNNING, cause)
        release = Release(
            cause=cause,
            at=self._record.clock(),
            mirror=session.mirror,
            reason=reason,
            waits_for=session.waits_for,
            postponed=postponed,
            due=due,
        )

        def change(tx: Connection) -> None:
            if also is not None:
                also(tx)
            if state not in ENDED or queue.others_wait(tx, run.case_id, run.run_id):
                wake_on_commit(tx)  # others look when it comes due, or when its case is free

        session.commit(draft, change=change, release=release)
        self._meter.execution(run.process, state)

    def _result_of(self, definition: ProcessDefinition, run_id: str) -> Any:
        with self._record.store.read() as tx:
            run = self._runs.get(tx, run_id)
            if run.process != definition.name:
                raise NotRecorded(f"run {run_id} is one of process {run.process}, not of {definition.name}")
            if run.state is not RunState.DONE:
                raise _not_free(run)
            events = self._record.trail.chain(tx, run_id)
            finished = next(event for event in reversed(events) if event.kind == "run.finished")
            private = self._record.trail.private_values(tx, [finished.event_id])
        return definition.result.validate_json(json.dumps(finished.data["result"]), context={UNSEAL: unsealer(private)})


def _refuse_lethal(run: Run) -> None:
    if run.deaths >= MOST_DEATHS:
        raise RunParked(
            f"its worker died {run.deaths} times in it, and nothing was done in between: look into the workers' log, "
            "correct what ends them (a plug-in that crashes or takes all memory), then: "
            f"orchestrator runs resume {run.run_id}"
        )


def _request(definition: ProcessDefinition, told: RecordedRun, private: dict[str, Any]) -> BaseModel:
    return definition.request.model_validate_json(json.dumps(told.request), context={UNSEAL: unsealer(private)})


def _not_free(run: Run) -> Exception:
    match run.state:
        case RunState.PARKED:
            return RunParked(run.reason)
        case RunState.FAILED:
            return RunFailed(f"run {run.run_id} failed: {run.reason}; resume it with: orchestrator runs resume")
        case RunState.CANCELLED:
            return RunCancelled(f"run {run.run_id} was cancelled")
        case _:
            return LeaseLost(f"run {run.run_id}: another worker has it")
