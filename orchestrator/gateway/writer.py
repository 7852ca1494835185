"""One writer for all calls: what arrives while it commits is committed together, next."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, Queue
from threading import Thread

from orchestrator.gateway.accepting import Accepted, Arrival

GROUP = 64
"""At most so many arrivals share a transaction."""
logger = logging.getLogger(__name__)


class Writer:
    """Accepts arrivals in groups, on a thread of its own.

    A group that fails is tried once more, each arrival alone, so that none fails for another's sake.

    Args:
        accept: Stores a group in one transaction.
        group: At most so many arrivals share a transaction.
    """

    def __init__(
        self,
        accept: Callable[[Sequence[Arrival]], list[Accepted]],
        *,
        group: int = GROUP,
    ) -> None:
        self._accept = accept
        self._group = group
        self._waiting: Queue[tuple[Arrival, Future[Accepted]] | None] = Queue()
        self._thread = Thread(target=self._run, name="accept", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def stop(self) -> None:
        """Accept what waits, and end."""
        self._waiting.put(None)
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether arrivals are accepted."""
        return self._thread.is_alive()

    def submit(self, arrival: Arrival) -> Future[Accepted]:
        """Let an arrival be accepted. The caller bounds how many wait at once."""
        future: Future[Accepted] = Future()
        self._waiting.put((arrival, future))
        return future

    def _run(self) -> None:
        is_open = True
        while is_open:
            entries = [self._waiting.get()]
            with suppress(Empty):
                while len(entries) < self._group:
                    entries.append(self._waiting.get_nowait())
            is_open = None not in entries
            # Whoever stopped waiting for the answer is not accepted: the sender was told to come again.
            self._write([entry for entry in entries if entry and entry[1].set_running_or_notify_cancel()])

    def _write(self, group: list[tuple[Arrival, Future[Accepted]]]) -> None:
        if not group:
            return
        try:
            answers = self._accept([arrival for arrival, _ in group])
        except Exception as exc:  # noqa: BLE001 - the writer outlives whatever the store does
            self._fail(group, exc)
            return
        for (_, future), answer in zip(group, answers, strict=True):
            future.set_result(answer)

    def _fail(self, group: list[tuple[Arrival, Future[Accepted]]], exc: Exception) -> None:
        logger.warning("%d calls could not be accepted together: %s", len(group), type(exc).__name__)
        for arrival, future in group:
            try:
                (answer,) = self._accept([arrival])
            except Exception as again:  # noqa: BLE001
                future.set_exception(again)
            else:
                future.set_result(answer)
