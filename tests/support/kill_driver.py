"""A warm process that starts workers as forks of itself, lets them be killed, and tells what became of a run.

It is told what to do by lines of JSON on its standard input and answers each with one line of JSON. Workers
die by ``kill -9`` or fall asleep by ``SIGSTOP`` at the n-th boundary: before a transaction, right before its
commit, after it, before and after each call of the system outside and of its probe.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import IntEnum
from pathlib import Path
from threading import Barrier
from typing import Any

from orchestrator.errors import LeaseLost, RunFailed, RunParked, RunPostponed
from orchestrator.kernel.consistency import RunsAndEffects
from orchestrator.kernel.resolution import settle
from orchestrator.kernel.runs import Run, RunState
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.states import Cause, State
from orchestrator.plugins import DoubtClass
from orchestrator.plugins.standard import STANDARD
from orchestrator.record.clock import SteadyClock, steady
from orchestrator.record.record import Record, open_record
from orchestrator.record.verify import verify
from tests.support.careless_ledgers import VARIANTS
from tests.support.durable_system import LETHAL, Boundary, DurableSystem, LethalSystem
from tests.support.kernel_bench import ANN, Bench, Errand, process, send_link, watched
from tests.support.shared_clock import SharedClock

SEND_LINK = process(send_link)
PATIENCE = 30
"""So many workers in a row bring a run to its end, or nobody does."""
BY_THE_WALL = "by the wall clock"
"""The variant whose leases and deadlines jump with the wall clock."""


class Exit(IntEnum):
    """How a worker ended by itself."""

    DONE = 0
    PARKED = 10
    POSTPONED = 11
    LEASE_LOST = 12
    FAILED = 13


@dataclass(kw_only=True)
class Case:
    """One run under test, and what was seen of it."""

    doubt: DoubtClass
    variant: str
    is_blind: bool
    run_id: str = ""
    asked: int = 0
    trouble: str = ""
    sleeper: int | None = None


class Driver:
    """Starts, kills and watches workers.

    Args:
        url: The record's database.
        folder: Where the key and the outside system's memory lie.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self._clock = SharedClock()
        self._record = open_record(url, folder / "key", self._clock, SteadyClock("shared", self._clock.steady))
        self._memory = folder / "system.db"
        self._cases: dict[str, Case] = {}
        self._warm_up()

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order."""
        match order["do"]:
            case "begin":
                is_blind = bool(order.get("is_blind"))
                case = Case(doubt=DoubtClass(order["doubt"]), variant=order["variant"], is_blind=is_blind)
                return self._begin(case, order["at"], order["how"])
            case "jump":
                self._clock.jump(order["seconds"])
                return {}
            case "wear out":
                return self._wear_out(order["by"])
            case "overtake":
                return self._overtake(self._cases[order["run"]])
            case _:
                return self._recover(self._cases[order["run"]], list(order.get("kills", [])))

    def _begin(self, case: Case, at: int, how: str) -> dict[str, Any]:
        """Open a run and let its first worker die, or fall asleep, at a boundary."""
        case.run_id = Bench(self._seen_by(case.variant), object()).open(SEND_LINK)
        self._cases[case.run_id] = case
        kind = self._work(case, at=at, how=signal.Signals[how])
        return {"run": case.run_id, "struck": kind}

    def _seen_by(self, variant: str) -> Record:
        """Return the record as the workers of a variant know it."""
        return replace(self._record, steady=steady(self._clock)) if variant == BY_THE_WALL else self._record

    def _overtake(self, case: Case) -> dict[str, Any]:
        """Let another worker try to take the run of the one that sleeps, and let that one go on then."""
        second = self._work(case, at=0)
        sleeper, case.sleeper = case.sleeper, None
        assert sleeper is not None
        os.kill(sleeper, signal.SIGCONT)
        return {"second": second, "first": _wait(sleeper)}

    def _recover(self, case: Case, kills: list[int]) -> dict[str, Any]:
        """Let fresh workers bring the run to its end, then wake the one that slept, and tell what was seen."""
        for _ in range(PATIENCE):
            self._clock.advance(timedelta(minutes=10))
            ended = self._work(case, at=kills.pop(0) if kills else 0)
            if ended == "PARKED" and not self._decide(case):
                break
            if ended in ("DONE", "FAILED"):
                break
        if case.sleeper is not None:
            os.kill(case.sleeper, signal.SIGCONT)
            _wait(case.sleeper)
        return self._report(case)

    def _work(self, case: Case, *, at: int, how: signal.Signals = signal.SIGKILL) -> str:
        """Start a worker; return how it ended by itself, or the kind of the boundary where it was struck."""
        self._record.store.close()  # no connection may be shared with a fork
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(told)
            self._be_a_worker(case, _Strike(at, how, tell))
        os.close(tell)
        struck_at = os.read(told, 100).decode()
        os.close(told)
        if struck_at and how is signal.SIGSTOP:
            os.waitpid(pid, os.WUNTRACED)
            case.sleeper = pid
        else:
            ended = _wait(pid)
            case.trouble += "" if struck_at or ended in Exit.__members__ else f"a worker ended with {ended}; "
        return struck_at or ended

    def _be_a_worker(self, case: Case, boundary: Boundary) -> None:
        code = 1
        try:
            bench = Bench(
                watched(self._seen_by(case.variant), boundary),
                DurableSystem(self._memory, case.doubt, boundary, is_blind=case.is_blind),
                owner=str(os.getpid()),
                ledger=VARIANTS.get(case.variant, Ledger),
                is_proven=lambda: not case.is_blind,
            )
            code = _execute(bench, case.run_id)
        except BaseException:  # noqa: BLE001 - a fork must not go on as if it were the driver
            traceback.print_exc()
        os._exit(code)

    def _decide(self, case: Case) -> bool:
        """Be the person who looks into the system and says what is true; tell whether there was anything to say."""
        bench, system = Bench(self._record, object()), self._system(case)
        waiting = [each for each in bench.effects(case.run_id) if each["state"] == State.NEEDS_DECISION]
        for each in waiting:
            happened = system.applied(each["effect_id"]) > 0
            settle(self._record, STANDARD, each["effect_id"], Cause.HAPPENED if happened else Cause.RETRY, ANN)
            case.asked += 1
        return bool(waiting)

    def _wear_out(self, by: str) -> dict[str, Any]:
        """Open a run that ends its worker, and three that are harmless; start workers as long as there is anything."""
        bench = Bench(self._record, object())
        lethal = bench.open(SEND_LINK, Errand(email=LETHAL))
        harmless = [bench.open(SEND_LINK) for _ in range(3)]
        died = 0
        for _ in range(PATIENCE):
            self._clock.advance(timedelta(minutes=10))
            ended = self._fork(lambda: self._claim_and_execute(by, lethal))
            died += ended not in Exit.__members__
            if all(
                bench.run(each).state in (RunState.DONE, RunState.PARKED, RunState.FAILED)
                for each in (lethal, *harmless)
            ):
                break
        run = bench.run(lethal)
        return {
            "died": died,
            "state": run.state,
            "reason": run.reason,
            "kinds": bench.kinds(lethal),
            "harmless": [bench.run(each).state for each in harmless],
        }

    def _claim_and_execute(self, by: str, lethal: str) -> int:
        """Execute side by side what a claim gives; beside the lethal run nothing else comes to its end."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        system = LethalSystem(self._memory, by)
        bench = Bench(self._record, system, owner=str(os.getpid()))
        runs = bench.kernel.claim(most=4, processes=["sample"]).runs
        system.beside = Barrier(len(runs)) if lethal in {run.run_id for run in runs} else None
        codes = list(ThreadPoolExecutor().map(lambda run: _go_on(bench, run), runs))
        return max(codes, default=Exit.DONE)

    def _fork(self, work: Callable[[], int]) -> str:
        self._record.store.close()  # no connection may be shared with a fork
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = work()
            finally:
                os._exit(code)
        return _wait(pid)

    def _report(self, case: Case) -> dict[str, Any]:
        bench, system = Bench(self._record, object()), self._system(case)
        effects, kinds = bench.effects(case.run_id), bench.kinds(case.run_id)
        with self._record.store.read() as tx:
            found = verify(tx, case.run_id, [RunsAndEffects(tx)])
        return {
            "state": bench.run(case.run_id).state,
            "effects": [each["state"] for each in effects],
            "applied": [system.applied(each["effect_id"]) for each in effects],
            "asked": case.asked,
            "doubts": kinds.count("effect.in_doubt"),
            "ends": kinds.count("run.finished"),
            "breaches": [each.problem for each in (*found.breaches, *found.mismatches)],
            "trouble": case.trouble,
        }

    def _system(self, case: Case) -> DurableSystem:
        return DurableSystem(self._memory, case.doubt, lambda kind: None)

    def _warm_up(self) -> None:
        """Go through a run once: forks inherit what was imported and compiled."""
        bench = Bench(self._record, DurableSystem(self._memory, DoubtClass.PROBE, lambda kind: None))
        run_id = bench.open(SEND_LINK)
        bench.kernel.execute(SEND_LINK, run_id)


class _Strike:
    """Counts boundaries and strikes its own process at one of them."""

    def __init__(self, at: int, how: signal.Signals, tell: int) -> None:
        self._left = at
        self._how = how
        self._tell = tell

    def __call__(self, kind: str) -> None:
        self._left -= 1
        if self._left == 0:
            os.write(self._tell, kind.encode())
            os.close(self._tell)
            os.kill(os.getpid(), self._how)


def _execute(bench: Bench, run_id: str) -> Exit:
    try:
        bench.kernel.execute(SEND_LINK, run_id)
    except RunParked:
        return Exit.PARKED
    except RunPostponed:
        return Exit.POSTPONED
    except LeaseLost:
        return Exit.LEASE_LOST
    except RunFailed:
        return Exit.FAILED
    return Exit.DONE


def _go_on(bench: Bench, run: Run) -> Exit:
    try:
        bench.kernel.go_on(SEND_LINK, run)
    except RunParked:
        return Exit.PARKED
    except MemoryError:
        os._exit(1)  # as the system would do it
    return Exit.DONE


def _wait(pid: int) -> str:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Exit(code).name if code in list(Exit) else str(code)


def main() -> None:
    """Obey until there are no more orders."""
    driver = Driver(sys.argv[1], Path(sys.argv[2]))
    for line in sys.stdin:
        print(json.dumps(driver.obey(json.loads(line))), flush=True)  # noqa: T201 - this is how it answers


if __name__ == "__main__":
    main()
