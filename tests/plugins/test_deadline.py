from __future__ import annotations

import gc
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from datetime import timedelta
from threading import Barrier, Event, current_thread
from weakref import ref

import pytest

from orchestrator.toolkit import TimeLimit, after, within
from orchestrator.toolkit.deadline import call_limited, uptime

LONG = timedelta(seconds=30)


def test_an_answer_in_time_is_handed_on() -> None:
    assert within(LONG, lambda: 42) == 42


def test_an_error_is_raised_where_the_answer_is_awaited() -> None:
    def fail() -> None:
        raise KeyError("why")

    with pytest.raises(KeyError, match="why"):
        within(LONG, fail)


def test_nobody_waits_longer_than_the_limit() -> None:
    ended = Event()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        within(timedelta(seconds=0.1), ended.wait)
    ended.set()
    assert time.monotonic() - began < 5


def test_a_question_left_behind_keeps_no_process_alive() -> None:
    assert within(LONG, lambda: current_thread().daemon)


def test_the_question_sees_the_context_of_its_asker() -> None:
    case = ContextVar[str]("case")
    case.set("case-1")
    assert within(LONG, case.get) == "case-1"


def test_one_question_after_the_other_is_asked_by_the_same_thread() -> None:
    assert within(LONG, current_thread) is within(LONG, current_thread)


def test_many_questions_at_once_wait_for_none_of_the_others() -> None:
    together = Barrier(20)
    with ThreadPoolExecutor(20) as pool:
        places = [pool.submit(within, LONG, together.wait) for _ in range(20)]
    assert sorted(each.result() for each in places) == list(range(20))


def test_nothing_of_an_answered_question_is_kept() -> None:
    class Secret:
        pass

    secret = Secret()
    known = ref(secret)
    assert within(LONG, lambda held=secret: held is not None)  # type: ignore[misc]
    del secret
    within(LONG, gc.collect)
    assert known() is None


def test_alarms_come_in_the_order_of_their_time() -> None:
    rung: list[str] = []
    last = Event()
    after(0.06, last.set)
    after(0.04, lambda: rung.append("second"))
    after(0.02, lambda: rung.append("first"))
    assert last.wait(LONG.total_seconds())
    assert rung == ["first", "second"]


def test_an_alarm_that_was_called_off_does_not_come() -> None:
    rung: list[str] = []
    last = Event()
    call_off = after(0.02, lambda: rung.append("called off"))
    after(0.04, last.set)
    call_off()
    assert last.wait(LONG.total_seconds())
    assert rung == []


def test_an_alarm_that_fails_is_in_no_other_ones_way(caplog: pytest.LogCaptureFixture) -> None:
    last = Event()
    after(0, lambda: 1 / 0)
    after(0, last.set)
    assert last.wait(LONG.total_seconds())
    assert "ZeroDivisionError" in caplog.text


def test_the_time_of_a_call_passes_and_is_no_longer_than_what_the_host_has_for_it() -> None:
    limit = TimeLimit(30)
    assert 29 < limit.left <= 30
    limit.check()
    with call_limited(lambda: 0.5):
        shorter = TimeLimit(30)
        assert (shorter.left, TimeLimit(0.25).left <= 0.25) == (0.5, True)
    assert (shorter.left, limit.left > 29) == (0.5, True)
    with pytest.raises(TimeoutError):
        TimeLimit(0).check()


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system does not tell how long it was suspended")
def test_the_clock_of_calls_goes_on_while_the_machine_is_suspended() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= uptime() <= time.clock_gettime(time.CLOCK_BOOTTIME)
