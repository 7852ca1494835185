"""The time that a call has, and total time-outs for vendors' clients that only know time-outs per read.

No thread is started for each call: that would take longer than many a call itself.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from datetime import timedelta
from heapq import heappop, heappush
from itertools import count
from queue import Empty, SimpleQueue
from threading import Condition, Thread
from typing import Any, TypeVar, cast

T = TypeVar("T")
logger = logging.getLogger(__name__)

MOST_IDLE = 32
"""So many threads are kept for the next questions."""

_COUNTS_SUSPENSION: int | None = getattr(time, "CLOCK_BOOTTIME", None)
_LEFT_TO_CALL: ContextVar[Callable[[], float]] = ContextVar("left to call", default=lambda: math.inf)


def uptime() -> float:
    """Return the seconds since the machine started, including those in which it was suspended.

    Source: clock_gettime(2), ``CLOCK_BOOTTIME``. Where there is none, the monotonic clock is read.
    """
    return time.monotonic() if _COUNTS_SUSPENSION is None else time.clock_gettime(_COUNTS_SUSPENSION)


@contextmanager
def call_limited(left: Callable[[], float]) -> Iterator[None]:
    """Give the calls that are made meanwhile no more time than the host has for them.

    Args:
        left: Tells how many seconds are left.
    """
    before = _LEFT_TO_CALL.set(left)
    try:
        yield
    finally:
        _LEFT_TO_CALL.reset(before)


class TimeLimit:
    """The time that one call has, from now on; it passes while this process or the machine stands still, too.

    Whoever sends checks it right before the last byte that lets something happen. No other thread can do that: it is
    stopped together with the sender, and may wake up later.

    Args:
        seconds: The time, unless the host has less for this call.
    """

    def __init__(self, seconds: float) -> None:
        self._end = uptime() + seconds
        self._left_to_call = _LEFT_TO_CALL.get()

    @property
    def left(self) -> float:
        """Seconds that are left; not more than zero when it is over."""
        return min(self._end - uptime(), self._left_to_call())

    def check(self) -> None:
        """Do nothing while there is time.

        Raises:
            TimeoutError: It is over.
        """
        if self.left <= 0:
            raise TimeoutError("the time is over")


def within(limit: timedelta, ask: Callable[[], T]) -> T:
    """Wait for an answer until the limit, and then no longer.

    A socket's time-out starts afresh with every byte, and a name look-up has none; so the question
    is asked in another thread, which is left behind when the limit has passed.

    Args:
        limit: Total time to wait.
        ask: The question. Only one that changes nothing outside, because it may still end later.

    Raises:
        TimeoutError: No answer came in time.
    """
    answers: SimpleQueue[_Answer] = SimpleQueue()
    _ask_elsewhere(copy_context(), ask, answers)
    try:
        answer, error = answers.get(timeout=max(limit.total_seconds(), 0))
    except Empty:
        raise TimeoutError("no answer in time") from None
    if error is not None:
        raise error
    return cast("T", answer)


def after(seconds: float, act: Callable[[], None]) -> Callable[[], None]:
    """Do something when a time is over, unless that is called off before.

    Args:
        seconds: The time from now on.
        act: Done in a thread that serves everybody: it must be quick, and wait for nothing.

    Returns:
        Call it to call it off.
    """
    return _ALARMS.set(uptime() + seconds, act)


_Answer = tuple[Any, BaseException | None]
"""The answer, or the error instead."""
_Question = tuple[Context, Callable[[], Any], "SimpleQueue[_Answer]"]


class _Asker(Thread):
    """Asks one question after the other."""

    def __init__(self) -> None:
        super().__init__(name="within-deadline", daemon=True)
        self.questions: SimpleQueue[_Question] = SimpleQueue()

    def run(self) -> None:
        """Ask, until there are enough others that wait for questions."""
        is_wanted = True
        while is_wanted:
            context, ask, answers = self.questions.get()
            answer: _Answer
            try:
                answer = context.run(ask), None
            except BaseException as error:  # noqa: BLE001 - raised again where the answer is awaited
                answer = None, error
            is_wanted = len(_IDLE) < MOST_IDLE
            if is_wanted:
                _IDLE.append(self)  # before it is answered, so that the next question finds it
            answers.put(answer)
            del context, ask, answers, answer  # nothing of it lives on while this thread waits


_IDLE: list[_Asker] = []
os.register_at_fork(after_in_child=_IDLE.clear)  # a child has none of these threads


def _ask_elsewhere(context: Context, ask: Callable[[], Any], answers: SimpleQueue[_Answer]) -> None:
    try:
        asker = _IDLE.pop()
    except IndexError:
        asker = _Asker()
        asker.start()
    asker.questions.put((context, ask, answers))


class _Alarms:
    """Does things when their time has come, in one thread for all."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._numbers = count()
        self._due: list[tuple[float, int, list[Callable[[], None]]]] = []
        """Moment, number, and what is to be done: emptied when it is called off."""
        self._thread: Thread | None = None

    def set(self, moment: float, act: Callable[[], None]) -> Callable[[], None]:
        todo = [act]
        with self._changed:
            if self._thread is None or not self._thread.is_alive():  # the first time, and after a fork
                self._thread = Thread(target=self._run, name="alarms-of-calls", daemon=True)
                self._thread.start()
            is_first = not self._due or moment < self._due[0][0]
            heappush(self._due, (moment, next(self._numbers), todo))
            if is_first:
                self._changed.notify()
        return todo.clear

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._due or (wait := self._due[0][0] - uptime()) > 0:
                    self._changed.wait(wait if self._due else None)
                _, _, todo = heappop(self._due)
            for act in [*todo]:
                try:
                    act()
                except Exception as exc:  # noqa: BLE001 - the others must have their time-outs all the same
                    logger.error("A time-out could not be carried out: %s", type(exc).__name__)  # noqa: TRY400


_ALARMS = _Alarms()
