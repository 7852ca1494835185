"""When a process runs by itself: declared with the process, overridden by the configuration."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from dateutil.rrule import DAILY, rrule, rrulestr
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from orchestrator.spelling import nearest

RHYTHMS = ("cron", "every_seconds", "rrule")
LONGEST_RRULE = 6500
"""Prefect refuses longer ones."""
HORIZON = timedelta(days=3653)
"""A rule that does not come due for so long never does."""
_CRON_FIELDS = 5
_ANCHOR = datetime(2020, 1, 1)  # noqa: DTZ001 - where a rule without DTSTART begins, in its own time zone, as in Prefect


def _cron(expression: str) -> str:
    fault = "" if len(expression.split()) == _CRON_FIELDS else f"it needs {_CRON_FIELDS} fields"
    try:
        CronSim(expression, datetime.now(UTC))
    except CronSimError as exc:
        fault = fault or str(exc)
    if fault:
        raise ValueError(
            f"is no cron expression ({fault}); write minute, hour, day, month, weekday, such as 0 8 * * 1-5"
        )
    return expression


def _rrule(text: str) -> str:
    fault = f"it is longer than {LONGEST_RRULE} characters" if len(text) > LONGEST_RRULE else ""
    try:
        fault = fault or _fault_of(rrulestr(text, dtstart=_ANCHOR))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as exc:
        fault = str(exc) or "it cannot be read"
    if fault:
        raise ValueError(
            f"is no usable recurrence rule of RFC 5545 ({fault}); write one such as "
            "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=8;BYMINUTE=0;BYSECOND=0"
        )
    return text


def _fault_of(rule: object) -> str:
    if not isinstance(rule, rrule):
        return "it is a set of rules; write a single one"
    if rule._freq > DAILY:  # noqa: SLF001 - dateutil tells no other way
        return "it repeats more often than daily; give BYHOUR more hours, or write cron or every_seconds instead"
    if rule._interval < 1:  # noqa: SLF001
        return "its INTERVAL is less than 1"
    if rule._dtstart.tzinfo is not None:  # noqa: SLF001
        return "its DTSTART has a time zone; leave it out and write timezone instead"
    now = datetime.now(UTC).replace(tzinfo=None)
    until = min(rule._until or now + HORIZON, now + HORIZON)  # noqa: SLF001
    comes_due = rule.replace(until=until, count=None).after(now) and (rule._count is None or rule.after(now))  # noqa: SLF001
    return "" if comes_due else "it never comes due again"


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        match = nearest(name, available_timezones()) or "Europe/Berlin"
        raise ValueError(f"is no time zone; write one of the IANA names, such as {match}") from None
    return name


class Schedule(BaseModel):
    """When a process runs by itself, and with what input; it has one rhythm.

    Args:
        cron: Minute, hour, day, month, weekday.
        every_seconds: A fixed interval.
        rrule: A recurrence rule of RFC 5545.
        timezone: The IANA name of the time zone that the rhythm is meant in.
        request: The input of the process.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    cron: Annotated[str, AfterValidator(_cron)] | None = None
    every_seconds: Annotated[int, Field(ge=1)] | None = None
    rrule: Annotated[str, AfterValidator(_rrule)] | None = None
    timezone: Annotated[str, AfterValidator(_timezone)] = "UTC"
    request: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_rhythm(self) -> Self:
        if len(self._rhythms()) > 1:
            raise ValueError("has more than one rhythm; write one of cron, every_seconds and rrule")
        return self

    @property
    def rhythm(self) -> str | None:
        """The rhythm in words, None if there is none."""
        told = {"cron": self.cron, "every_seconds": f"every {self.every_seconds} s", "rrule": self.rrule}
        return next((told[name] for name in self._rhythms()), None)

    def changed_by(self, other: Schedule) -> Schedule:
        """Return this schedule with what another one says differently: single settings, or another rhythm."""
        kept = {name: getattr(self, name) for name in self.model_fields_set}
        given = {name: getattr(other, name) for name in other.model_fields_set if name in Schedule.model_fields}
        if other.rhythm is not None:
            kept = {name: value for name, value in kept.items() if name not in RHYTHMS}
        return Schedule(**(kept | given))

    def _rhythms(self) -> list[str]:
        return [name for name in RHYTHMS if getattr(self, name) is not None]
