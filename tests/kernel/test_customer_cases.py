from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from sqlalchemy import select

from orchestrator.kernel.cases import QUIET
from orchestrator.record.tables import customer_case, run, subject_key
from tests.support.clock import HandClock
from tests.support.kernel_bench import EMAIL, Bench, Errand, process, send_one

SEND_ONE, CASED = process(send_one), process(send_one, cased=True)
TICK = timedelta(microseconds=1)


def test_a_second_impatient_request_joins_the_open_case(bench: Bench) -> None:
    first, second = bench.open(CASED), bench.open(CASED, Errand(email=" ANNA@example.com"))
    other = bench.open(CASED, Errand(email="bob@example.com"))
    cases = [bench.run(run_id).case_id for run_id in (first, second, other)]
    subjects = [bench.run(run_id).subject_ref for run_id in (first, second, other)]
    assert cases[0] == cases[1] != cases[2]
    assert subjects[0] == subjects[1] != subjects[2]


@pytest.mark.parametrize(("waited", "joins"), [(QUIET, True), (QUIET + TICK, False)])
def test_a_request_long_after_the_answer_opens_a_new_case(
    bench: Bench, clock: HandClock, waited: timedelta, joins: bool
) -> None:
    first = bench.open(CASED)
    bench.kernel.execute(CASED, first)
    clock.now += waited
    second = bench.open(CASED)
    assert (bench.run(second).case_id == bench.run(first).case_id) is joins
    assert bench.run(second).subject_ref == bench.run(first).subject_ref


def test_a_case_without_an_answer_stays_open_for_ever(bench: Bench, clock: HandClock) -> None:
    first = bench.open(CASED)
    clock.advance(days=400)
    assert bench.run(bench.open(CASED)).case_id == bench.run(first).case_id


def test_requests_that_come_at_once_open_one_case(bench: Bench) -> None:
    ready = Barrier(6)

    def ask(number: int) -> str | None:
        ready.wait(timeout=30)
        return bench.run(bench.open(CASED)).case_id

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(ask, range(6)))) == 1


def test_the_address_of_a_case_stands_nowhere_open(bench: Bench) -> None:
    bench.open(CASED)
    with bench.record.store.read() as tx:
        rows = [*tx.execute(select(customer_case)), *tx.execute(select(run)), *tx.execute(select(subject_key))]
    assert all(EMAIL not in repr(tuple(row)) for row in rows)
