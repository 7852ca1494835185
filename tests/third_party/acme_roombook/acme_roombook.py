"""A calendar in a directory: one file for each booking."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from pathlib import Path

from acme_calendar import Calendar, Slot
from pydantic import BaseModel

from orchestrator.capabilities import Receipt
from orchestrator.errors import Rejected, Unavailable
from orchestrator.plugins import Connector, DoubtClass, RegisterConnector, Settlement, hookimpl


class RoomBookSettings(BaseModel, frozen=True, extra="forbid"):
    """Where the bookings are, and at which hours there are times."""

    directory: Path
    hours: tuple[int, ...] = (9, 10, 11)


class RoomBook:
    """A directory of bookings."""

    def __init__(self, settings: RoomBookSettings) -> None:
        self._directory, self._hours = settings.directory.absolute(), settings.hours
        self.settlements = {"book": Settlement(doubt=DoubtClass.NATURAL)}

    def free_slots(self, day: date) -> tuple[Slot, ...]:
        """Look up which times of a day are free."""
        taken = {begins for begins, _ in self._bookings().values()}
        slots = (Slot(begins=datetime.combine(day, time(hour), UTC)) for hour in self._hours)
        return tuple(slot for slot in slots if slot.begins.isoformat() not in taken)

    def book(self, slot: Slot, *, guest: str, effect_id: str | None = None) -> Receipt:
        """Write the booking; the same effect writes the same file."""
        begins = slot.begins.isoformat()
        if any(begins == taken for key, (taken, _) in self._bookings().items() if key != effect_id):
            raise Rejected("this time is taken")
        (self._directory / f"{effect_id}.json").write_text(json.dumps([begins, guest]))
        return Receipt(reference=str(effect_id))

    def check(self) -> str:
        """Count the bookings."""
        if not self._directory.is_dir():
            raise Unavailable(f"{self._directory} is no directory: create it, or correct directory")
        return f"{self._directory} holds {len(self._bookings())} bookings"

    def _bookings(self) -> dict[str, list[str]]:
        return {file.stem: json.loads(file.read_text()) for file in sorted(self._directory.glob("*.json"))}


@hookimpl
def register_connectors(register: RegisterConnector) -> None:
    """Offer the connector."""
    register(Connector(name="acme-roombook", provides=(Calendar,), settings=RoomBookSettings, build=RoomBook))
