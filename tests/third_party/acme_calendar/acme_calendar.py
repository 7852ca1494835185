"""Appointments: which times are free, and to book one."""

from __future__ import annotations

from datetime import date, datetime
from typing import Protocol

from orchestrator.capabilities import Private, Receipt, Recipient, Value, effect, query
from orchestrator.plugins import Capability, RegisterCapability, hookimpl


class Slot(Value):
    """A time that a guest can have."""

    begins: datetime


class Calendar(Protocol):
    """The system that knows whose time is free."""

    @query
    def free_slots(self, day: date) -> tuple[Slot, ...]:
        """Look up which times of a day are free."""
        ...

    @effect(reaches=lambda slot, guest: Recipient(guest))
    def book(self, slot: Slot, *, guest: Private[str]) -> Receipt:
        """Book a time, and invite the guest.

        Raises:
            Rejected: It is taken.
        """
        ...


@hookimpl
def register_capabilities(register: RegisterCapability) -> None:
    """Offer the capability."""
    register(
        Capability(
            name="calendar",
            protocol=Calendar,
            fake="acme_calendar_testing:FakeCalendar",
            contract="acme_calendar_testing:CalendarContract",
            api="2.0",
        )
    )
