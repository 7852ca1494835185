"""Believes that there is nothing only of a connection that has lately shown what is known to be there."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from time import monotonic

from orchestrator.errors import AccessDenied

BELIEVED_SECONDS = 600.0
"""A connection that has shown the known record is believed for so long when it shows nothing."""


class KnownRecord:
    """A record that is always there. An account that has lost a right often answers 200 and an empty list.

    Args:
        look: Asks the system for the record; what it returns is empty if the system does not show it.
        missing: What is wrong if it does not, and what to do.
        clock: Tells seconds that never run backwards.
    """

    def __init__(self, look: Callable[[], object], missing: str, *, clock: Callable[[], float] = monotonic) -> None:
        self._look = look
        self._missing = missing
        self._clock = clock
        self._believed_until = float("-inf")
        self._believing = Lock()

    def must_be_seen(self) -> None:
        """Return if the record has been seen lately, or is seen now. Call it before an empty answer is given.

        Raises:
            AccessDenied: It is not there: nothing is to be concluded from what the account does not show.
            ConnectorError: As the look raises it.
        """
        with self._believing:
            if self._clock() < self._believed_until:
                return
        if not self._look():
            raise AccessDenied(self._missing)
        with self._believing:
            self._believed_until = self._clock() + BELIEVED_SECONDS
