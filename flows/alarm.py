"""Alarm: the people who run the business learn what stopped, before a customer tells them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from orchestrator.capabilities import Notice, Notifier, Private, Receipt, Value
from orchestrator.process import process


class Alarm(Value):
    """What stopped, or works again."""

    title: str = Field(title="In one line", description="Without personal data.", examples=["2 runs stopped"])
    lines: tuple[Private[str], ...] = Field(
        default=(), title="Details", description="One a line.", examples=[["run r-1 (lost-download) failed"]]
    )
    severity: Literal["info", "warning", "alarm"] = Field(
        default="info",
        title="How bad it is",
        description="warning: something waits for a person; alarm: something does not work.",
        examples=["warning"],
    )


@process("alarm")
def alarm(request: Alarm, *, notifier: Notifier) -> Receipt:
    """Tell the people who run the business what stopped."""
    return notifier.notify(Notice(title=request.title, lines=request.lines, severity=request.severity))
