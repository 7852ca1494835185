"""Processes: what should happen, in the words of the business."""

from __future__ import annotations

from flows.alarm import alarm
from flows.lost_download import lost_download
from flows.strangers import strangers
from flows.support_inbox import support_inbox
from orchestrator.process import RegisterProcess, hookimpl


@hookimpl
def register_processes(register: RegisterProcess) -> None:
    """Offer the processes of this package."""
    register(alarm)
    register(lost_download)
    register(strangers)
    register(support_inbox)
