from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from orchestrator.plugins import DoubtClass
from tests.support.deep import cases
from tests.support.paths import ROOT
from tests.support.postgres import PostgresServer

DRIVER = "tests.support.kill_driver"
CLASSES = list(DoubtClass)
EFFECTS = 2
MOST = 60
"""No worker has so many boundaries."""
REPETITIONS = cases(2, 200)
AHEAD, BACK = [600, 86_400], [-600, -86_400]
"""How far the wall clock jumps, in seconds."""
MEMORY = Path("/dev/shm")
"""Where Linux keeps files in memory: they survive the death of a process, and flushing them costs nothing."""
Seen = dict[str, Any]


class Workers:
    """Workers that are killed on demand.

    Args:
        url: The record's database.
        folder: Where they keep their files.
    """

    def __init__(self, url: str, folder: Path) -> None:
        command = [sys.executable, "-m", DRIVER, url, str(folder)]
        self._driver = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def begin(
        self, doubt: DoubtClass, at: int, *, how: str = "SIGKILL", variant: str = "sound", is_blind: bool = False
    ) -> tuple[str, str]:
        """Let a new run's first worker be struck at a boundary; return the run and the boundary's kind."""
        seen = self._tell(do="begin", doubt=doubt, at=at, how=how, variant=variant, is_blind=is_blind)
        return seen["run"], seen["struck"]

    def jump(self, seconds: int) -> None:
        """Set the wall clock of all workers."""
        self._tell(do="jump", seconds=seconds)

    def overtake(self, run_id: str) -> dict[str, str]:
        """Let a second worker try to take a run from the one that sleeps; then that one wakes and goes on."""
        return self._tell(do="overtake", run=run_id)

    def wear_out(self, by: str) -> Seen:
        """Open a run that ends each of its workers, and others beside it; tell what becomes of them."""
        return self._tell(do="wear out", by=by)

    def recover(self, run_id: str, *kills: int) -> Seen:
        """Let others bring the run to its end; some of them are killed, too."""
        return self._tell(do="recover", run=run_id, kills=kills)

    def close(self) -> None:
        """Let them go."""
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        self._driver.stdin.close()
        self._driver.stdout.close()
        assert self._driver.wait(timeout=60) == 0

    def _tell(self, **order: object) -> Seen:
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        self._driver.stdin.write(json.dumps(order) + "\n")
        self._driver.stdin.flush()
        answer: Seen = json.loads(self._driver.stdout.readline())
        return answer


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="killed-", dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def workers(folder: Path) -> Iterator[Workers]:
    workers = Workers(f"sqlite:///{folder}/record.db", folder)
    yield workers
    workers.close()


@pytest.fixture(scope="module")
def postgres_workers(postgres_server: PostgresServer, folder: Path) -> Iterator[Workers]:
    url = postgres_server.new_database()
    (folder / "pg").mkdir()
    workers = Workers(url, folder / "pg")
    yield workers
    workers.close()
    postgres_server.drop_database(url)


def problems(seen: Seen, doubt: DoubtClass, *, is_blind: bool = False) -> list[str]:
    """Tell what must not be: the harness's judgement, which the negative controls put to the test."""
    found = []
    if seen["state"] != "done" or seen["ends"] != 1 or seen["trouble"]:
        found.append(f"the run did not come to one end: {seen}")
    if doubt is not DoubtClass.PURE:
        if len(seen["applied"]) != EFFECTS or 0 in seen["applied"]:
            found.append(f"lost: {seen}")
        if any(times > 1 for times in seen["applied"]):
            found.append(f"done twice: {seen}")
    if seen["asked"] != (seen["doubts"] if doubt is DoubtClass.NONE or is_blind else 0):
        found.append(f"a doubt that was not asked, or asked without need: {seen}")
    if seen["breaches"]:
        found.append(f"the trail does not verify: {seen}")
    return found


def strike_everywhere(workers: Workers, doubt: DoubtClass, **options: Any) -> Iterator[tuple[int, str, str]]:
    """Strike a new run's worker at its first boundary, another's at its second, and so on to the last."""
    for at in range(1, MOST):
        run_id, struck = workers.begin(doubt, at, **options)
        yield at, struck, run_id
        if struck == "DONE":
            return
    pytest.fail("a worker never came to its end")


@pytest.mark.parametrize("doubt", CLASSES)
def test_a_worker_killed_anywhere_leaves_nothing_lost_and_nothing_done_twice(
    workers: Workers, doubt: DoubtClass
) -> None:
    kinds = set()
    for _ in range(REPETITIONS):
        for at, struck, run_id in strike_everywhere(workers, doubt):
            kinds.add(struck)
            assert problems(workers.recover(run_id), doubt) == [], f"killed at {at}: {struck}"
    assert kinds == {"write", "commit", "committed", "call", "acted", "DONE"}


def test_a_doubt_about_what_an_unproven_probe_does_not_see_is_a_persons(workers: Workers) -> None:
    for at, struck, run_id in strike_everywhere(workers, DoubtClass.PROBE, is_blind=True):
        found = problems(workers.recover(run_id), DoubtClass.PROBE, is_blind=True)
        assert found == [], f"killed at {at}: {struck}"


@pytest.mark.parametrize("doubt", CLASSES)
def test_workers_killed_one_after_the_other_leave_nothing_lost_and_nothing_done_twice(
    workers: Workers, doubt: DoubtClass
) -> None:
    rng = random.Random(f"pairs {doubt}")
    for _ in range(cases(8, 2000)):
        first, *later = (rng.randint(1, 24) for _ in range(rng.choice([2, 2, 3])))
        run_id, struck = workers.begin(doubt, first)
        assert problems(workers.recover(run_id, *later), doubt) == [], f"killed at {first} ({struck}), {later}"


@pytest.mark.parametrize("by", ["segfault", "abort", "memory"])
def test_a_run_that_ends_its_workers_is_parked_and_those_beside_it_get_on(workers: Workers, by: str) -> None:
    seen = workers.wear_out(by)
    assert (seen["died"], seen["state"], seen["harmless"]) == (4, "parked", ["done"] * 3), seen
    assert "its worker died 4 times in it" in seen["reason"]
    assert seen["kinds"] == ["run.opened", "run.parked"]


@pytest.mark.parametrize("doubt", CLASSES)
def test_a_clock_that_jumps_takes_no_run_from_the_worker_that_executes_it(workers: Workers, doubt: DoubtClass) -> None:
    kinds = set()
    for at, struck, run_id in struck_in_jumps(workers, doubt, "SIGSTOP", [AHEAD, BACK] * cases(1, 10)):
        kinds.add(struck)
        seen = workers.overtake(run_id)
        assert at == 1 or seen["first"] == "DONE", f"jumped at {at}: {struck}"
        assert problems(workers.recover(run_id), doubt) == [], f"jumped at {at}: {struck}"
    assert kinds == {"write", "committed", "call", "acted"}


@pytest.mark.parametrize("doubt", CLASSES)
def test_a_worker_killed_while_the_clock_jumps_leaves_nothing_lost_and_nothing_done_twice(
    workers: Workers, doubt: DoubtClass
) -> None:
    jumps = [AHEAD + BACK, BACK + AHEAD] * 8
    for at, struck, run_id in struck_in_jumps(workers, doubt, "SIGKILL", jumps[: cases(1, 16)]):
        assert problems(workers.recover(run_id), doubt) == [], f"killed at {at}: {struck}, and the clock jumped"


def test_the_harness_notices_when_leases_and_deadlines_go_by_the_wall_clock(workers: Workers) -> None:
    found: list[str] = []
    for _, _, run_id in struck_in_jumps(workers, DoubtClass.PROBE, "SIGSTOP", [AHEAD], variant="by the wall clock"):
        workers.overtake(run_id)
        found += problems(workers.recover(run_id), DoubtClass.PROBE)
    assert any(each.startswith("done twice") for each in found)


def struck_in_jumps(
    workers: Workers, doubt: DoubtClass, how: str, turns: Sequence[Sequence[int]], **options: Any
) -> Iterator[tuple[int, str, str]]:
    """Strike a worker at each of its boundaries, and let the wall clock jump there; in each turn by other spans."""
    struck_at = [(at, struck, workers.recover(run_id)) for at, struck, run_id in strike_everywhere(workers, doubt)]
    boundaries = [at for at, struck, _ in struck_at[:-1] if how == "SIGKILL" or struck != "commit"]
    for jumps in turns:
        for at, jump in zip(boundaries, cycle(jumps), strict=False):
            run_id, struck = workers.begin(doubt, at, how=how, **options)
            workers.jump(jump)
            yield at, struck, run_id


@pytest.mark.parametrize("doubt", [DoubtClass.PROBE, DoubtClass.NONE])
def test_a_worker_that_sleeps_while_others_end_its_run_does_nothing_when_it_wakes(
    workers: Workers, doubt: DoubtClass
) -> None:
    """It sleeps before a transaction or after one: in the middle it would hold the database's only writer lock."""
    slept = 0
    kinds = [(at, struck, workers.recover(run_id)) for at, struck, run_id in strike_everywhere(workers, doubt)]
    for at in [at for at, struck, _ in kinds if struck in ("write", "committed")]:
        run_id, struck = workers.begin(doubt, at, how="SIGSTOP")
        assert problems(workers.recover(run_id), doubt) == [], f"slept at {at}: {struck}"
        slept += 1
    assert slept >= 8


@pytest.mark.postgres
@pytest.mark.parametrize("doubt", [DoubtClass.NATURAL, DoubtClass.PROBE, DoubtClass.NONE])
def test_postgresql_keeps_what_was_committed_when_a_worker_is_killed(
    postgres_workers: Workers, doubt: DoubtClass
) -> None:
    for at, struck, run_id in strike_everywhere(postgres_workers, doubt):
        assert problems(postgres_workers.recover(run_id), doubt) == [], f"killed at {at}: {struck}"


@pytest.mark.postgres
def test_nothing_is_lost_when_the_database_server_crashes_too(tmp_path: Path) -> None:
    """With its commits flushed to the disk, as in production."""
    with PostgresServer(durable=True) as server:
        workers = Workers(server.new_database(), tmp_path)
        runs = [run_id for _, _, run_id in strike_everywhere(workers, DoubtClass.NONE)]
        server.crash()
        server.start()
        for run_id in runs:
            assert problems(workers.recover(run_id), DoubtClass.NONE) == []
        workers.close()


@pytest.mark.parametrize(
    ("variant", "doubt", "how", "harm"),
    [
        ("without intent", DoubtClass.PROBE, "SIGKILL", "done twice"),
        ("without intent", DoubtClass.NONE, "SIGKILL", "done twice"),
        ("without probe", DoubtClass.PROBE, "SIGKILL", "done twice"),
        ("without proof", DoubtClass.PROBE, "SIGKILL", "done twice"),
        ("without asking", DoubtClass.NONE, "SIGKILL", "done twice"),
        ("without hurry", DoubtClass.PROBE, "SIGSTOP", "done twice"),
        ("without fence", DoubtClass.PROBE, "SIGSTOP", "done twice"),
    ],
)
def test_the_harness_notices_when_a_precaution_is_missing(
    workers: Workers, variant: str, doubt: DoubtClass, how: str, harm: str
) -> None:
    found = harms(workers, doubt, variant, how)
    assert any(each.startswith(harm) for each in found)


def harms(workers: Workers, doubt: DoubtClass, variant: str, how: str) -> Iterator[str]:
    is_blind = variant == "without proof"
    for at, struck, run_id in strike_everywhere(workers, doubt, variant=variant, is_blind=is_blind):
        yield from problems(workers.recover(run_id), doubt, is_blind=is_blind)
        if how == "SIGSTOP" and struck in ("write", "committed"):
            asleep, _ = workers.begin(doubt, at, how=how, variant=variant)
            yield from problems(workers.recover(asleep), doubt)


def test_a_precaution_against_sleepers_is_not_noticed_missing_without_them(workers: Workers) -> None:
    for _, _, run_id in strike_everywhere(workers, DoubtClass.PROBE, variant="without fence"):
        assert problems(workers.recover(run_id), DoubtClass.PROBE) == []
