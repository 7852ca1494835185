"""How lines of the log look: readable for people, JSON for programs."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from orchestrator.logs.guard import guard

PREFECT_LOGGING = Path(__file__).with_name("prefect.yml")
"""Prefect's own logging: what it sends to its server stays, what it prints goes through ours."""


class Form(StrEnum):
    """How the log is written."""

    TEXT = "text"
    JSON = "json"


def form_for(wanted: Form | None) -> Form:
    """Return how to write the log: as wanted, else readable for whoever sits before a terminal, else JSON."""
    return wanted or (Form.TEXT if sys.stderr.isatty() else Form.JSON)


def configure(service: str, form: Form) -> None:
    """Write the log of this process to standard error, guarded, from now on.

    Call it before Prefect is imported, which sets its logging up then.

    Args:
        service: The name of this process: ``gateway``, ``worker``, ``prefect``, ``up``.
        form: How lines look.
    """
    guard()
    os.environ["PREFECT_LOGGING_SETTINGS_PATH"] = str(PREFECT_LOGGING)
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(service) if form is Form.JSON else Readable(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("orchestrator").setLevel(logging.INFO)


class Readable(logging.Formatter):
    """Lines for people.

    Args:
        service: The name of this process.
    """

    def __init__(self, service: str) -> None:
        super().__init__(f"%(asctime)s | %(levelname)-7s | {service:<7} | %(name)s - %(message)s", "%H:%M:%S")


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, service, logger, message, and what it is about.

    Args:
        service: The name of this process.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "about", {}),
        }
        if record.exc_text:
            line["error"] = record.exc_text
        return json.dumps(line, ensure_ascii=False)
