"""Stands before each connection: keeps to its vendor's quota, and leaves it alone while it is down."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from functools import partial, wraps
from threading import Lock
from time import monotonic, sleep
from typing import Any, TypeVar

from orchestrator.capabilities import operations_of
from orchestrator.errors import AccessDenied, ConnectorError, RateLimited, Unavailable
from orchestrator.settings import LimitSettings

T = TypeVar("T")
Monotonic = Callable[[], float]
"""Tells seconds that never run backwards."""

FAILURES = 5
"""After so many calls in a row without an answer, a connection counts as down."""
FIRST_REST_SECONDS = 5.0
LONGEST_REST_SECONDS = 120.0
WORTH_WAITING_SECONDS = 1.0
"""A call waits for its turn for so long; for a longer wait its run gives the worker free."""
logger = logging.getLogger(__name__)


class ConnectionState(StrEnum):
    """What the last calls say of a connection."""

    WORKING = "working"
    DOWN = "down"
    """It did not answer several times in a row."""
    DENIED = "denied"
    """It refuses the credential: a person must fix that."""


Report = Callable[[ConnectionState, str], None]
"""Told the state of a connection, and why, whenever it may have changed."""


class Pace:
    """Spreads calls so that a quota is kept: a leaky bucket, by the time at which the next call is due.

    Callers that must come back later are given moments of their own, so that they do not come all at once.

    Args:
        limits: The quota.
        clock: Tells the time.
    """

    def __init__(self, limits: LimitSettings, clock: Monotonic = monotonic) -> None:
        self._interval = 60.0 / limits.calls_per_minute
        self._slack = self._interval * (limits.burst - 1)
        self._clock = clock
        self._next = self._promised = clock()

    def take(self) -> float:
        """Take a turn, or be told when to come back.

        Returns:
            Seconds to wait: up to ``WORTH_WAITING_SECONDS`` the turn is taken and only has to be waited for; beyond,
            it is not taken.
        """
        now = self._clock()
        self._next = max(self._next, now)
        wait = max(self._next - self._slack - now, 0.0)
        if wait <= WORTH_WAITING_SECONDS:
            self._next += self._interval
            return wait
        self._promised = max(self._promised, now + wait) + self._interval
        return self._promised - now


class Guard:
    """Lets calls through to one connection.

    Args:
        name: The connection.
        report: Told its state.
        answered: Called when it answers for the first time.
        limits: The vendor's quota, if there is one.
        clock: Tells the time.
    """

    def __init__(
        self,
        name: str,
        report: Report,
        *,
        answered: Callable[[], None] = lambda: None,
        limits: LimitSettings | None = None,
        clock: Monotonic = monotonic,
    ) -> None:
        self._name = name
        self._report = report
        self._answered = answered
        self._has_answered = False
        self._pace = Pace(limits, clock) if limits else None
        self._clock = clock
        self._lock = Lock()
        self._failures = 0
        self._rests_until = 0.0
        self._asked_for_rest = False

    def call(self, operation: Callable[[], T]) -> T:
        """Make a call, if it is the time for one.

        Raises:
            RateLimited: It is not: the quota is used up, or the system asked for a rest.
            Unavailable: It is not: the connection is down.
            ConnectorError: As the operation raises it.
        """
        self._admit()
        try:
            answer = operation()
        except ConnectorError as exc:
            self._failed(exc)
            raise
        self.answers()
        return answer

    def answers(self) -> None:
        """Note that the connection answers. That a credential is refused no more, only a check can tell."""
        if not self._failures and self._has_answered:
            return
        with self._lock:
            was_down, is_first = self._failures >= FAILURES, not self._has_answered
            self._failures, self._rests_until, self._has_answered = 0, 0.0, True
        if is_first:
            self._try(self._answered, ConnectionState.WORKING)
        if was_down:
            self._tell(ConnectionState.WORKING, "")

    def _admit(self) -> None:
        with self._lock:
            rest = self._rests_until - self._clock()
            if rest > 0:
                self._refuse(rest)
            if self._failures >= FAILURES:  # one call alone finds out whether it works again
                self._rests_until = self._clock() + self._rest()
            wait = self._pace.take() if self._pace else 0.0
        if wait > WORTH_WAITING_SECONDS:
            message = f"connection {self._name}: its quota ([connections.{self._name}.limits]) is used up for now"
            raise RateLimited(message, retry_after=timedelta(seconds=wait))
        if wait:
            sleep(wait)

    def _refuse(self, rest: float) -> None:
        if self._asked_for_rest:
            message = f"connection {self._name}: it asked to be left alone for another {rest:.0f} s"
            raise RateLimited(message, retry_after=timedelta(seconds=rest))
        message = f"connection {self._name}: it is down, and is tried again in {rest:.0f} s"
        raise Unavailable(message, no_effect=True)

    def _failed(self, error: ConnectorError) -> None:
        match error:
            case RateLimited(retry_after=timedelta() as asked):
                self._rest_for(asked.total_seconds())
            case RateLimited():
                pass
            case Unavailable():
                self._count(error)
            case AccessDenied():
                self._tell(ConnectionState.DENIED, str(error))
            case _:
                self.answers()

    def _rest_for(self, seconds: float) -> None:
        """Leave the system alone for as long as it asks: all runs, not the one alone that it told so."""
        with self._lock:
            self._rests_until = self._clock() + min(max(seconds, 0.0), LONGEST_REST_SECONDS)
            self._asked_for_rest = True

    def _count(self, error: ConnectorError) -> None:
        with self._lock:
            self._failures += 1
            is_down = self._failures >= FAILURES
            if is_down:
                self._rests_until, self._asked_for_rest = self._clock() + self._rest(), False
        if is_down:
            self._tell(ConnectionState.DOWN, str(error))

    def _tell(self, state: ConnectionState, reason: str) -> None:
        self._try(partial(self._report, state, reason), state)

    def _try(self, report: Callable[[], None], state: ConnectionState) -> None:
        """Report; what comes of that never changes what came of the call."""
        try:
            report()
        except Exception as exc:  # noqa: BLE001 - the state is told again with the next call that fails, or by the watch
            logger.warning(
                "Connection %s is %s, which could not be recorded: %s", self._name, state, type(exc).__name__
            )

    def _rest(self) -> float:
        """Return how long to leave a connection alone that is down: longer each time, within reason."""
        doubled: float = FIRST_REST_SECONDS * 2.0 ** min(self._failures - FAILURES, 10)
        return min(doubled, LONGEST_REST_SECONDS)


class Guarded:
    """A connection behind its guard; every operation of its capabilities goes through.

    Args:
        connection: What the connector built.
        provides: Its capabilities.
        guard: The guard.
    """

    def __init__(self, connection: Any, provides: tuple[type, ...], guard: Guard) -> None:
        self.guard = guard
        self._connection = connection
        for name in {name for capability in provides for name in operations_of(capability)}:
            setattr(self, name, self._behind_guard(getattr(connection, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def _behind_guard(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(operation)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return self.guard.call(lambda: operation(*args, **kwargs))

        return guarded
