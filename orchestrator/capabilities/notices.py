"""Notices to the people who run the business."""

from __future__ import annotations

from typing import Literal, Protocol

from orchestrator.capabilities.values import Private, Receipt, Value, effect


class Notice(Value):
    """What somebody should know."""

    title: str
    """One line without personal data: it is shown on lock screens and in lists."""
    lines: tuple[Private[str], ...] = ()
    severity: Literal["info", "warning", "alarm"] = "info"
    """``warning``: something waits for a person; ``alarm``: something does not work."""


class Notifier(Protocol):
    """The system that reaches the people who run the business: a chat, a pager, a mailbox."""

    @effect
    def notify(self, notice: Notice) -> Receipt:
        """Tell the people who run the business.

        Args:
            notice: What to tell.

        Raises:
            Rejected: The system refuses the notice for good.
        """
        ...
