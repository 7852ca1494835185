"""A customer wants to come by."""

from __future__ import annotations

from datetime import date

from acme_calendar import Calendar

from orchestrator.capabilities import EmailAddress, Private, Value
from orchestrator.process import RegisterProcess, hookimpl, process


class Visit(Value):
    """Who wants to come, and when."""

    email: Private[EmailAddress]
    day: date

    def case_key(self) -> str:
        """Return what the customer's case is known by."""
        return self.email


@process("appointment", case_key=Visit.case_key)
def appointment(visit: Visit, *, calendar: Calendar) -> str:
    """Give a customer the first time of the day that is free."""
    slots = calendar.free_slots(visit.day)
    if not slots:
        return "full"
    calendar.book(slots[0], guest=visit.email)
    return "booked"


@hookimpl
def register_processes(register: RegisterProcess) -> None:
    """Offer the process."""
    register(appointment)
