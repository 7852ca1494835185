from __future__ import annotations

import time
from contextvars import ContextVar
from datetime import timedelta
from threading import Event, current_thread

import pytest

from orchestrator.plugins import within

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
