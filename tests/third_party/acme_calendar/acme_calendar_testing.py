"""For the tests of processes and connectors: a calendar in memory, and what every calendar must do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Protocol

import pytest
from acme_calendar import Calendar, Slot

from orchestrator.capabilities import Receipt
from orchestrator.errors import Rejected
from orchestrator.plugins import Connection, DoubtClass, Settlement, with_effect_id
from orchestrator.testing.contracts.doubts import settle
from orchestrator.testing.fault_script import Scripted

DAY = date(2026, 3, 2)
GUEST = "ann@example.com"


class FakeCalendar(Scripted):
    """A calendar whose days have two times each."""

    def __init__(self) -> None:
        super().__init__()
        self.bookings: dict[str, tuple[Slot, str]] = {}
        self.settlements = {"book": Settlement(doubt=DoubtClass.NATURAL)}

    def free_slots(self, day: date) -> tuple[Slot, ...]:
        """Look up which times of a day are free."""
        with self._call("free_slots", day=day):
            slots = (Slot(begins=datetime.combine(day, time(hour), UTC)) for hour in (9, 10))
            taken = {slot for slot, _ in self.bookings.values()}
            return tuple(slot for slot in slots if slot not in taken)

    def book(self, slot: Slot, *, guest: str, effect_id: str | None = None) -> Receipt:
        """Book a time; the same effect again changes nothing."""
        with self._call("book", slot=slot, guest=guest):
            key = effect_id or f"booking-{len(self.bookings) + 1}"
            if any(slot == taken for other, (taken, _) in self.bookings.items() if other != key):
                raise Rejected("this time is taken")
            self.bookings[key] = (slot, guest)
            return Receipt(reference=key)

    def guests(self) -> list[str]:
        """Return who was invited."""
        return [guest for _, guest in self.bookings.values()]

    def check(self) -> str:
        """Count the bookings."""
        return f"a calendar with {len(self.bookings)} bookings"


class CalendarConnection(Calendar, Connection, Protocol):
    """The connection under test."""

    @property
    def settlements(self) -> Mapping[str, Settlement]:
        """How doubts are settled."""
        ...


class Diary(Protocol):
    """What the tests see of the calendar behind the connection."""

    def guests(self) -> list[str]:
        """Return who was invited."""
        ...


class CalendarContract:
    """Give the fixtures ``calendar`` and ``diary``."""

    @pytest.fixture
    def calendar(self) -> CalendarConnection:
        """The connection under test."""
        raise NotImplementedError("give the fixture calendar: the connection under test")

    @pytest.fixture
    def diary(self) -> Diary:
        """The calendar behind it."""
        raise NotImplementedError("give the fixture diary: the calendar behind the connection")

    def test_a_booked_time_is_free_no_more(self, calendar: CalendarConnection, diary: Diary) -> None:
        first, *others = calendar.free_slots(DAY)
        assert with_effect_id(calendar.book, "f-1")(first, guest=GUEST).reference
        assert (list(calendar.free_slots(DAY)), diary.guests()) == (others, [GUEST])

    def test_a_taken_time_is_rejected(self, calendar: CalendarConnection) -> None:
        slot = calendar.free_slots(DAY)[0]
        with_effect_id(calendar.book, "f-1")(slot, guest=GUEST)
        with pytest.raises(Rejected):
            with_effect_id(calendar.book, "f-2")(slot, guest="tom@example.com")

    def test_a_booking_whose_doubt_was_settled_is_there_once(self, calendar: CalendarConnection, diary: Diary) -> None:
        slot = calendar.free_slots(DAY)[0]
        with_effect_id(calendar.book, "f-1")(slot, guest=GUEST)
        again = lambda: with_effect_id(calendar.book, "f-1")(slot, guest=GUEST)  # noqa: E731
        settle(calendar.settlements["book"], "f-1", again, slot=slot, guest=GUEST)
        assert diary.guests() == [GUEST]

    def test_a_check_says_in_one_line_what_it_saw(self, calendar: CalendarConnection) -> None:
        assert len(calendar.check().splitlines()) == 1
