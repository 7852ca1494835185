"""A total time-out for vendors' clients that only know time-outs per read."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from datetime import timedelta
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def within(limit: timedelta, ask: Callable[[], T]) -> T:
    """Wait for an answer until the limit, and then no longer.

    A socket's time-out starts afresh with every byte, and a name look-up has none; so the question
    is asked in a thread of its own, which is left behind when the limit has passed.

    Args:
        limit: Total time to wait.
        ask: The question. Only one that changes nothing outside, because it may still end later.

    Raises:
        TimeoutError: No answer came in time.
    """
    answer: Future[T] = Future()

    def wait() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - raised again where the answer is awaited
            answer.set_exception(error)

    Thread(target=copy_context().run, args=(wait,), name="within-deadline", daemon=True).start()
    return answer.result(limit.total_seconds())
