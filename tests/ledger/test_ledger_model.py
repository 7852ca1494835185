from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import func, select

from orchestrator.capabilities import Mailer, OutgoingMail, Receipt
from orchestrator.errors import EffectAbandoned, Rejected, RunError
from orchestrator.kernel.resolution import settle
from orchestrator.kernel.runs import RunState
from orchestrator.ledger.states import FINAL, TRANSITIONS, Cause, State
from orchestrator.plugins import DoubtClass, Settlement
from orchestrator.plugins.standard import STANDARD
from orchestrator.record.clock import moment
from orchestrator.record.record import Record
from orchestrator.record.tables import audit_event, run
from orchestrator.record.trail import Event
from orchestrator.record.verify import verify
from tests.support.clock import HandClock
from tests.support.deep import cases
from tests.support.fickle_provider import SETTLE, FickleProvider, Outcome
from tests.support.interleaving import Worker
from tests.support.kernel_bench import ANN, Bench, Done, Errand, process, watched

RARELY = st.sampled_from([False, False, False, True])
WAITS = [timedelta(seconds=1), timedelta(seconds=10), timedelta(seconds=70), timedelta(minutes=3), timedelta(hours=25)]


def send_four(errand: Errand, *, mailer: Mailer) -> Done:
    """Send four mails, and go on if one is refused or given up."""
    for subject in ("One", "Two", "Three", "Four"):
        with suppress(Rejected, EffectAbandoned):
            mailer.send(OutgoingMail(to=errand.email, subject=subject, text=subject))
    return Done()


SEND_FOUR = process(send_four)


class Sight(StrEnum):
    """What the provider's probe sees, and what is known of it."""

    PROVEN = "proven"
    UNPROVEN = "unproven"
    BLIND = "blind"


class WorkerMailer:
    """The mailer as one worker holds it: each call is a boundary of that worker."""

    def __init__(self, provider: FickleProvider, boundary: Callable[[str], None], check: Callable[[str], None]) -> None:
        self._provider = provider
        self._boundary = boundary
        self._check = check

    @property
    def settlements(self) -> dict[str, Settlement]:
        declared = self._provider.settlement()

        def probe(effect_id: str, mail: OutgoingMail) -> Receipt | None:
            self._boundary("probe")
            return self._provider.probe(effect_id, mail)

        return {"send": replace(declared, probe=probe)}

    def send(self, mail: OutgoingMail, *, effect_id: str | None = None) -> Receipt:
        self._check(str(effect_id))
        return self._provider.send(str(effect_id), self._boundary)


def event(name: str, **drawn: st.SearchStrategy[Any]) -> st.SearchStrategy[Callable[[EffectsUnderFire], None]]:
    """Return something that can happen to the machine."""

    def written(values: dict[str, Any]) -> Callable[[EffectsUnderFire], None]:
        def happen(machine: EffectsUnderFire) -> None:
            getattr(machine, name)(**values)

        happen.__qualname__ = f"{name}({values})"
        return happen

    return st.fixed_dictionaries(drawn).map(written)


NUMBERS, DECISIONS = st.integers(0, 1), st.sampled_from([Cause.HAPPENED, Cause.RETRY, Cause.GIVE_UP])
OUTCOMES, LAGS = st.sampled_from(Outcome), st.sampled_from([0.0, 0.5, 1.0])
SIGHTS = st.sampled_from([Sight.PROVEN, Sight.PROVEN, Sight.UNPROVEN, Sight.BLIND])
GO_ON = event(
    "go_on", number=NUMBERS, steps=st.integers(1, 8), outcome=OUTCOMES, lag=LAGS, probe_down=RARELY, sight=SIGHTS
)
KINDS = [
    *[GO_ON] * 6,
    *[event("wait_until_due")] * 4,
    *[event("call_a_person", decision=DECISIONS)] * 2,
    event("wait", by=st.sampled_from(WAITS)),
    event("die", number=NUMBERS),
]
# One rule, so that no kind of event is ever switched off for a whole case; what happens often stands often.
EVENTS = st.sampled_from(KINDS).flatmap(lambda kind: kind)


class EffectsUnderFire(RuleBasedStateMachine):
    """Two workers and one run; anything may stop anywhere."""

    record: Record
    clock: HandClock
    doubt: DoubtClass

    def __init__(self) -> None:
        super().__init__()
        self.workers = [Worker("worker-1"), Worker("worker-2")]
        self.fences: dict[str, int] = {}
        self.known_events = 0
        self.violations: list[str] = []
        self.retried_blindly = 0
        self.sight = Sight.PROVEN

    @initialize()
    def open_run(self) -> None:
        self.provider = FickleProvider(self.doubt, self.clock)
        self.bench = Bench(self.record, object())
        self.run_id = self.bench.open(SEND_FOUR)
        self.known_events = 1

    @rule(event=EVENTS)
    def happen(self, event: Callable[[EffectsUnderFire], None]) -> None:
        event(self)

    @invariant()
    def nothing_forbidden_happened(self) -> None:
        assert self.violations == []

    def teardown(self) -> None:
        for worker in self.workers:
            if not worker.idle:
                worker.die()
        if hasattr(self, "provider"):
            self.bring_to_an_end()
            self.check_the_end()

    # ------------------------------------------------------------------ what happens

    def go_on(self, number: int, steps: int, outcome: Outcome, lag: float, probe_down: bool, sight: Sight) -> None:
        """Let a worker go on, or begin if it does nothing."""
        worker = self.workers[number]
        self.sight, self.provider.is_blind = sight, sight is Sight.BLIND
        self.provider.outcome, self.provider.lag, self.provider.probe_down = outcome, SETTLE * lag, probe_down
        for _ in range(steps):
            if not worker.idle:
                worker.go_on()
            elif self.may_be_taken():
                worker.start(lambda: self.execute(worker))

    def die(self, number: int) -> None:
        if not self.workers[number].idle:
            self.workers[number].die()

    def wait(self, by: timedelta) -> None:
        self.clock.now += by
        self.provider.land()

    def wait_until_due(self) -> None:
        """Wait until a worker should take the run: it is due, or its owner's lease lapses."""
        lapses = self.lease_until()
        due = lapses + timedelta(microseconds=1) if lapses else self.bench.run(self.run_id).due_at
        self.wait(max(due - self.clock.now, timedelta(0)))

    def may_be_taken(self) -> bool:
        """Whether it is worth while for a worker to try: nobody else has the run."""
        lapses = self.lease_until()
        return self.state() is not RunState.DONE and (lapses is None or lapses < self.clock.now)

    def lease_until(self) -> datetime | None:
        with self.record.store.read() as tx:
            written = tx.execute(select(run.c.lease_until).where(run.c.run_id == self.run_id)).scalar_one()
        return moment(written) if written else None

    def call_a_person(self, decision: Cause) -> None:
        if self.state() is RunState.PARKED:
            self.act_as_a_person(decision)

    def execute(self, worker: Worker) -> None:
        record = watched(self.record, lambda kind: self.boundary(worker, kind))
        mailer = WorkerMailer(self.provider, worker.boundary, self.check_call)
        with suppress(RunError):
            Bench(record, mailer, owner=worker.name, is_proven=self.is_proven).kernel.execute(SEND_FOUR, self.run_id)

    def is_proven(self) -> bool:
        return self.sight is Sight.PROVEN

    def boundary(self, worker: Worker, kind: str) -> None:
        if kind == "committed":
            self.check_owner(worker)
        if kind != "commit":  # whoever stands there holds the lock of the only writer
            worker.boundary(kind)

    def act_as_a_person(self, decision: Cause) -> None:
        """Look into the system, and decide by what is seen there; where nobody can look, decide anyhow."""
        waiting = [each for each in self.effects() if each["state"] == State.NEEDS_DECISION]
        for each in waiting:
            happened = self.provider.applied[each["effect_id"]] > 0
            if self.provider.is_open(each["effect_id"]):
                return
            if self.provider.doubt is DoubtClass.NONE and decision is Cause.RETRY:
                self.retried_blindly += happened
            else:
                decision = Cause.HAPPENED if happened else Cause.RETRY if decision is Cause.HAPPENED else decision
            settle(self.record, STANDARD, each["effect_id"], decision, ANN)
        if not waiting:
            self.bench.runs.resume(self.run_id, ANN)
        self.known_events = self.count_events()

    def bring_to_an_end(self) -> None:
        """Let everything be well from now on."""
        mailer = WorkerMailer(self.provider, lambda kind: None, self.check_call)
        bench = Bench(self.record, mailer, owner="worker-3")
        self.provider.outcome, self.provider.probe_down, self.provider.is_blind = Outcome.DONE, False, False
        for _ in range(60):
            if self.state() is RunState.DONE:
                return
            if self.state() is RunState.PARKED:
                self.act_as_a_person(Cause.HAPPENED)
            with suppress(RunError):
                bench.kernel.execute(SEND_FOUR, self.run_id)
            self.wait(timedelta(minutes=3))
            self.wait_until_due()
        pytest.fail(f"the run does not come to its end: {self.bench.kinds(self.run_id)}")

    # ------------------------------------------------------------------ what must hold

    def check_call(self, effect_id: str) -> None:
        """No call without an attempt of its own that was committed before."""
        (row,) = [each for each in self.effects() if each["effect_id"] == effect_id]
        attempts = len([event for event in self.events(effect_id) if event.kind == "effect.attempt"])
        if row["state"] != State.ATTEMPTING or attempts <= self.provider.calls[effect_id]:
            self.violations.append(f"call {attempts} of {effect_id} without an attempt: it is {row['state']}")

    def check_owner(self, worker: Worker) -> None:
        """Only the one who took the run last writes to its chain."""
        with self.record.store.read() as tx:
            row = tx.execute(select(run.c.owner, run.c.fence).where(run.c.run_id == self.run_id)).one()
        grown, self.known_events = self.known_events, self.count_events()
        if row.owner == worker.name and row.fence > max(self.fences.values(), default=0):
            self.fences[worker.name] = row.fence
        if self.known_events > grown and row.fence != self.fences.get(worker.name):
            self.violations.append(f"{worker.name} wrote at fence {self.fences.get(worker.name)}, not {row.fence}")

    def check_the_end(self) -> None:
        with self.record.store.read() as tx:
            assert not verify(tx, self.run_id).breaches
        for each in self.effects():
            self.check_effect(each)
        assert self.violations == []

    def check_effect(self, row: Mapping[str, Any]) -> None:
        effect_id, state = row["effect_id"], State(row["state"])
        events = self.events(effect_id)
        assert state in FINAL
        assert path_of(events) is state
        applied = self.provider.applied[effect_id]
        if state is State.CONFIRMED:
            assert events[-1].kind == "effect.outcome" or events[-1].data["decision"] == Cause.HAPPENED
            assert applied >= 1
            assert applied == 1 or self.provider.doubt is DoubtClass.NONE
            assert applied <= 1 + self.retried_blindly
        else:
            assert applied == 0

    def effects(self) -> list[Mapping[str, Any]]:
        return self.bench.effects(self.run_id)

    def events(self, effect_id: str) -> list[Event]:
        return [each for each in self.bench.events(self.run_id) if each.context.effect_id == effect_id]

    def count_events(self) -> int:
        mine = select(func.count()).where(audit_event.c.chain_id == self.run_id)
        with self.record.store.read() as tx:
            return int(tx.execute(mine).scalar_one())

    def state(self) -> RunState:
        return self.bench.run(self.run_id).state


def path_of(events: list[Event]) -> State:
    """Follow an effect's events through the table of states."""
    state: State | None = None
    for event in events:
        decided = event.data.get("decision")
        (state,) = {
            target
            for (source, cause), (target, kind) in TRANSITIONS.items()
            if source == state and kind == event.kind and decided in (None, cause)
        }
    return cast("State", state)


@pytest.mark.parametrize("doubt", [DoubtClass.NATURAL, DoubtClass.NATIVE_KEY, DoubtClass.PROBE, DoubtClass.NONE])
def test_an_effect_happens_once_or_is_parked_with_the_evidence(
    record: Record, clock: HandClock, doubt: DoubtClass
) -> None:
    class UnderFire(EffectsUnderFire):
        pass

    UnderFire.record, UnderFire.clock, UnderFire.doubt = record, clock, doubt
    on_sqlite = record.store.dialect == "sqlite"
    run_state_machine_as_test(
        UnderFire,
        settings=settings(
            max_examples=cases(75, 5_000) if on_sqlite else cases(10, 500),
            stateful_step_count=30,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
