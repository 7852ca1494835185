"""Connections whose system tells us of changes, to addresses that it was given (its side of our webhooks)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """One event that a system sends to one address.

    Args:
        key: What the system calls it.
        event: What it tells of.
        url: Where to; it may hold the secret part of an unsigned webhook's address.
        state: How the system says that it stands.
        works: Whether events are sent now.
    """

    key: str
    event: str
    url: str = field(repr=False)
    state: str
    works: bool


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing that a system should have told of.

    Args:
        key: The event and the thing, as ``told`` names them.
        at: When it happened, by the system's clock.
        payload: What the system would have sent.
    """

    key: str
    at: datetime
    payload: bytes = field(repr=False)


@runtime_checkable
class Subscribable(Protocol):
    """What a connection has besides, if ``orchestrator connections hooks`` can keep its subscriptions.

    Each method raises ``ConnectorError`` if the system cannot do it.
    """

    def subscriptions(self) -> Sequence[Subscription]:
        """List what the system sends, and where to."""
        ...

    def subscribe(self, url: str, event: str) -> Subscription:
        """Let the system send an event to an address; what is subscribed already is not subscribed again."""
        ...

    def verify(self, key: str) -> Subscription:
        """Let the system prove an address again, so that it goes on sending."""
        ...

    def changes(self, event: str, since: datetime) -> Sequence[Change]:
        """Ask the system what an event should have told of since then.

        Raises:
            Rejected: The system cannot be asked for that.
        """
        ...

    def told(self, payload: object) -> Mapping[str, datetime]:
        """Read from what the system sent (as JSON) which changes it told of, and when they happened."""
        ...
