"""An ability that a mailbox may have besides its capability: to tell at once when mail comes."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol, runtime_checkable

from orchestrator.capabilities import Mailbox


class MailWatch(Mailbox, Protocol):
    """A mailbox read over one kept conversation, in which its system tells when mail comes.

    One thread uses it; any may call ``stop``.
    """

    def wait(self, timeout: timedelta) -> bool:
        """Wait until mail comes.

        It never raises: what happens to the conversation shows when the mailbox is next read.

        Args:
            timeout: No longer than this.

        Returns:
            Whether mail may have come since the mailbox was read last; False after ``stop``, too.
        """
        ...

    def stop(self) -> None:
        """End the wait that is under way, and every later one, at once."""
        ...

    def close(self) -> None:
        """End the conversation."""
        ...


@runtime_checkable
class Watchable(Protocol):
    """A connection whose mailbox can be watched. Processes cannot: it is no operation of a capability."""

    def watch(self) -> MailWatch:
        """Begin to watch; nothing is connected yet."""
        ...
