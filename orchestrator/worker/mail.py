"""Takes mail in: at once where the mailbox tells of it, else by looking."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from threading import Event, Thread

from orchestrator.bootstrap import Application
from orchestrator.errors import ConnectorError, RateLimited
from orchestrator.intake.mailboxes import Source
from orchestrator.ledger.ledger import LONGEST_ASKED
from orchestrator.plugins import MailWatch

FIRST_REST_SECONDS = 5.0
"""Longest rest after the first failure."""
LONGEST_REST_SECONDS = 60.0
"""Longest rest, unless the mailbox is looked into less often, or its system asks for more."""
Wait = Callable[[timedelta], object]
logger = logging.getLogger(__name__)


def take_mail(app: Application, source: Source, poll_seconds: float, stop: Event) -> None:
    """Take mail in from one mailbox until the worker stops.

    Args:
        app: The application.
        source: The mailbox.
        poll_seconds: How often it is looked into, whether it tells of mail or not.
        stop: Set when the worker is to stop.
    """
    with _watched(app, source, stop) as (watched, wait):
        failures = 0
        while not stop.is_set():
            if problem := _take_in(app, watched):
                failures += 1
                rest = rest_after(problem, failures, poll_seconds)
                if is_worth_a_line(failures):
                    logger.warning(
                        "Mailbox %s: %s; failure %d, tried again in %.0f s", source.name, _said(problem), failures, rest
                    )
                stop.wait(rest)
                continue
            if failures:
                logger.info("Mailbox %s can be read again, after %d failures", source.name, failures)
                failures = 0
            wait(timedelta(seconds=poll_seconds))


def rest_after(problem: Exception, failures: int, poll_seconds: float) -> float:
    """Return how many seconds to leave a mailbox alone: a few at first, doubled each time, as long as it asks for.

    Args:
        problem: Why it could not be read.
        failures: How often in a row.
        poll_seconds: How long it is left alone when it can be read.
    """
    doubled = min(poll_seconds, FIRST_REST_SECONDS) * 2.0 ** min(failures - 1, 20)
    rest = min(doubled, max(poll_seconds, LONGEST_REST_SECONDS))
    asked = problem.retry_after if isinstance(problem, RateLimited) else None
    return max(rest, min(asked, LONGEST_ASKED).total_seconds()) if asked else rest


def is_worth_a_line(failures: int) -> bool:
    """Tell whether the log shows a failure: the 1st in a row, the 2nd, 4th, 8th, and so on."""
    return failures & (failures - 1) == 0


def _take_in(app: Application, source: Source) -> Exception | None:
    """Take in what is new; return what went wrong, if anything did."""
    try:
        taken = app.intake.take_in(source)
    except Exception as exc:  # noqa: BLE001 - the next round tries again; nothing was moved
        return exc
    if taken:
        logger.info("Mailbox %s: %d new", source.name, taken)
    return None


def _said(problem: Exception) -> str:
    """Say what went wrong; the words of an error that is not ours may name a person."""
    return str(problem) if isinstance(problem, ConnectorError) else type(problem).__name__


@contextmanager
def _watched(app: Application, source: Source, stop: Event) -> Iterator[tuple[Source, Wait]]:
    """Watch the mailbox if it can be watched; the worker's stop ends each wait at once."""
    watch = app.watch(source)
    if watch is None:
        yield source, lambda timeout: stop.wait(timeout.total_seconds())
        return
    Thread(target=_stop_with, args=(watch, stop), name=f"stops-{source.name}", daemon=True).start()
    try:
        yield replace(source, mailbox=watch), watch.wait
    finally:
        watch.close()


def _stop_with(watch: MailWatch, stop: Event) -> None:
    stop.wait()
    watch.stop()
