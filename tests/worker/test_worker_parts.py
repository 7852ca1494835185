from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from orchestrator.worker.main import _live_or_stop
from tests.support.gateways import wait_until


@pytest.fixture
def told_to_stop() -> Iterator[list[int]]:
    """The signals that this process got."""
    seen: list[int] = []
    former = signal.signal(signal.SIGTERM, lambda number, _frame: seen.append(number))
    yield seen
    signal.signal(signal.SIGTERM, former)


def die() -> None:
    raise ZeroDivisionError


def test_a_worker_whose_part_died_stops_and_says_which(
    told_to_stop: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ZeroDivisionError):
        _live_or_stop("sweep", die)
    wait_until(lambda: told_to_stop == [signal.SIGTERM])
    assert caplog.messages == ["Thread sweep of this worker has died: the worker stops, to be started again"]


def test_a_part_that_has_nothing_left_to_do_stops_nothing(told_to_stop: list[int]) -> None:
    _live_or_stop("vacuum", lambda: None)
    assert told_to_stop == []
