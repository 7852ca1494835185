"""What stands before a connection: its vendor's quota, and a rest while it is down."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.bindings.guard import FAILURES, ConnectionState, Guard, Guarded, Pace
from orchestrator.capabilities import Asset, FileLinks
from orchestrator.errors import AccessDenied, ConnectorError, NotFound, RateLimited, Rejected, Unavailable
from orchestrator.settings import LimitSettings
from orchestrator.testing.files import FakeFiles

DOWN = Unavailable("no answer")


class Seconds:
    """A clock of seconds that tests move by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def reported() -> list[tuple[ConnectionState, str]]:
    return []


@pytest.fixture
def guard(clock: Seconds, reported: list[tuple[ConnectionState, str]]) -> Guard:
    return Guard("shop", lambda state, reason: reported.append((state, reason)), clock=clock)


def failing(error: ConnectorError) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


def fail(guard: Guard, error: ConnectorError, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(type(error)):
            guard.call(failing(error))


def test_the_first_answer_is_told_once(clock: Seconds) -> None:
    told: list[str] = []
    guard = Guard("shop", lambda *_said: None, answered=lambda: told.append("shop"), clock=clock)
    fail(guard, DOWN)
    assert told == []
    for _ in range(3):
        guard.call(lambda: 1)
    assert told == ["shop"]


@given(
    calls_per_minute=st.integers(1, 6000),
    burst=st.integers(1, 50),
    pauses=st.lists(st.floats(0, 30), min_size=1, max_size=60),
)
def test_in_no_stretch_of_time_more_calls_get_through_than_the_quota_allows(
    calls_per_minute: int, burst: int, pauses: list[float]
) -> None:
    clock = Seconds()
    pace = Pace(LimitSettings(calls_per_minute=calls_per_minute, burst=burst), clock)
    admitted = []
    for pause in pauses:
        clock.now += pause
        wait = pace.take()
        if wait <= 1.0:
            admitted.append(clock.now + wait)
    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            allowed = burst + (admitted[last] - admitted[first]) * calls_per_minute / 60
            assert last - first + 1 <= allowed + 1e-6


def test_callers_beyond_the_quota_are_told_moments_of_their_own(clock: Seconds) -> None:
    pace = Pace(LimitSettings(calls_per_minute=6, burst=2), clock)
    assert [pace.take() for _ in range(5)] == pytest.approx([0, 0, 20, 30, 40])


def test_a_used_up_quota_is_no_sign_that_anything_is_wrong(
    clock: Seconds, reported: list[tuple[ConnectionState, str]]
) -> None:
    guard = Guard("shop", lambda *said: reported.append(said), limits=LimitSettings(calls_per_minute=1), clock=clock)
    assert guard.call(lambda: "yes") == "yes"
    with pytest.raises(RateLimited, match=r"\[connections\.shop\.limits\]") as caught:
        guard.call(lambda: "not reached")
    assert (caught.value.retry_after or timedelta(0)) >= timedelta(seconds=60)
    assert reported == []


def test_a_connection_that_does_not_answer_is_left_alone_and_then_tried_by_one_call(
    guard: Guard, clock: Seconds, reported: list[tuple[ConnectionState, str]]
) -> None:
    fail(guard, DOWN, FAILURES)
    assert reported == [(ConnectionState.DOWN, "no answer")]
    with pytest.raises(Unavailable, match="connection shop: it is down, and is tried again in 5 s") as caught:
        guard.call(lambda: pytest.fail("it was called"))
    assert caught.value.no_effect
    clock.now += 5

    def others_wait() -> str:
        with pytest.raises(Unavailable):
            guard.call(lambda: pytest.fail("a second call was let through"))
        return "yes"

    assert guard.call(others_wait) == "yes"
    assert reported[-1] == (ConnectionState.WORKING, "")
    assert guard.call(lambda: "and again") == "and again"


def test_a_trial_that_fails_doubles_the_rest(guard: Guard, clock: Seconds) -> None:
    fail(guard, DOWN, FAILURES)
    for seconds in (5, 10, 20, 40, 80, 120, 120):
        clock.now += seconds - 0.5
        with pytest.raises(Unavailable, match="it is down"):
            guard.call(lambda: None)
        clock.now += 0.5
        fail(guard, DOWN)


@pytest.mark.parametrize("error", [NotFound("none"), Rejected("no")])
def test_a_refusal_is_an_answer(
    guard: Guard, error: ConnectorError, reported: list[tuple[ConnectionState, str]]
) -> None:
    fail(guard, DOWN, FAILURES - 1)
    fail(guard, error)
    fail(guard, DOWN, FAILURES - 1)
    assert reported == []


def test_all_calls_rest_for_as_long_as_the_system_asks(guard: Guard, clock: Seconds) -> None:
    fail(guard, RateLimited("slow down", retry_after=timedelta(seconds=30)))
    with pytest.raises(RateLimited, match="asked to be left alone for another 30 s"):
        guard.call(lambda: pytest.fail("it was called"))
    clock.now += 30
    assert guard.call(lambda: "yes") == "yes"


def test_a_refused_credential_is_told_and_an_answer_alone_does_not_mend_it(
    guard: Guard, reported: list[tuple[ConnectionState, str]]
) -> None:
    fail(guard, AccessDenied("the password is wrong"))
    guard.call(lambda: "another file may be read")
    assert reported == [(ConnectionState.DENIED, "the password is wrong")]


def test_a_state_that_cannot_be_recorded_does_not_change_what_came_of_the_call(clock: Seconds) -> None:
    def refuse(_state: ConnectionState, _reason: str) -> None:
        raise OSError("the disk is full")

    guard = Guard("shop", refuse, clock=clock)
    fail(guard, AccessDenied("the password is wrong"))
    fail(guard, DOWN, FAILURES)
    clock.now += 5
    assert guard.call(lambda: "yes") == "yes"


def test_operations_go_through_the_guard_and_everything_else_past_it(guard: Guard) -> None:
    files = FakeFiles(Asset(key="a.zip"))
    guarded = Guarded(files, (FileLinks,), guard)
    fail(guard, DOWN, FAILURES)
    with pytest.raises(Unavailable, match="it is down"):
        guarded.exists(Asset(key="a.zip"))
    assert guarded.settlements["link_to"] == files.settlements["link_to"]
    assert guarded.check() == files.check()
