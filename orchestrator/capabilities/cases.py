"""The cases that mails belong to, and work to start. The host answers this itself, from its own database."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Protocol

from orchestrator.capabilities.values import Private, Receipt, Value, effect


class CaseTicket(Value):
    """The case that a mail belongs to."""

    case_id: str
    state: Literal["opened", "joined", "answered", "with-person"]
    """``opened`` by this mail; ``joined`` an open case whose answer had not gone out when the mail was
    written; ``answered``: the customer wrote again after the answer; ``with-person``: the case has no answer,
    and its run waits for a person or has failed."""


class Work(Value):
    """A run to start: a process by name, and its input. Made by the process: ``lost_download.work(request)``."""

    process: str
    request: Private[str]
    """The input model as JSON."""


class Cases(Protocol):
    """The customers' matters, across runs and messages."""

    @effect
    def open_or_join(self, key: Private[str], *, delivery: str) -> CaseTicket:
        """Open the customer's case, or join the open one.

        Args:
            key: What the case is known by, for example the customer's address.
            delivery: The mail that belongs to it.
        """
        ...

    @effect
    def start(self, work: Work, *, case_id: str | None = None, at: datetime | None = None) -> Receipt:
        """Start the process that serves the case.

        The new run names this one as its parent, and goes its own way: this one does not wait for it.

        Args:
            work: Which process, with what input.
            case_id: The case that the new run belongs to; without one, the case of the run that starts it.
            at: When it is to be executed, with its time zone, if later. It must be the same at each replay:
                reckon it from what a step answered (``link.expires_at``), never from the clock.

        Returns:
            A receipt whose reference is the id of the run.

        Raises:
            Rejected: There is no such process, or ``at`` has no time zone.
        """
        ...
