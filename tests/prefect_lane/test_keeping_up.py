"""How patient the worker is with a Prefect server that is away, or busy."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from orchestrator.worker.prefect_sync import _keep_up

BUSY = httpx.HTTPStatusError("busy", request=httpx.Request("POST", "http://prefect.test"), response=httpx.Response(503))


@dataclass
class Rounds:
    """Stops after so many rounds, and keeps how long was waited between them."""

    left: int
    pauses: list[float] = field(default_factory=list)

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0

    def wait(self, seconds: float) -> None:
        self.pauses.append(seconds)


@dataclass
class Prefect:
    """Shows so many runs in each round, and then is busy or away."""

    problem: Exception | None
    each_time: int = 0
    shown: int = 0

    def catch_up(self) -> None:
        self.shown += self.each_time
        if self.problem is not None:
            raise self.problem


def pauses(prefect: Prefect, rounds: int = 5) -> list[float]:
    stop = Rounds(rounds)
    app: Any = SimpleNamespace(ended=SimpleNamespace(clear=lambda: None, wait=stop.wait))
    notices: Any = SimpleNamespace(catch_up=lambda: None)
    _keep_up(app, notices, cast("Any", prefect), cast("Event", stop))
    return stop.pauses


def test_one_that_is_away_is_asked_less_and_less_often() -> None:
    assert pauses(Prefect(httpx.ConnectError("nobody"))) == [2, 4, 8, 10, 10]


def test_one_that_is_busy_and_gets_on_is_asked_again_soon() -> None:
    assert pauses(Prefect(BUSY, each_time=20)) == [1, 1, 1, 1, 1]


def test_one_that_is_up_to_date_is_asked_now_and_then() -> None:
    assert pauses(Prefect(None)) == [5, 5, 5, 5, 5]


def test_the_log_says_what_was_wrong(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        pauses(Prefect(BUSY), rounds=1)
    assert "Prefect cannot be brought up to date now (HTTP 503)" in caplog.text
