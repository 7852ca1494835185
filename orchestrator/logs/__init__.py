"""Logs: what our processes say, for people or for programs, without secrets and personal data."""

from __future__ import annotations

from orchestrator.logs.context import about
from orchestrator.logs.formats import Form, configure, form_for
from orchestrator.logs.guard import guard
from orchestrator.logs.redaction import hide, redact
from orchestrator.logs.repetition import RepeatFilter

__all__ = ["Form", "RepeatFilter", "about", "configure", "form_for", "guard", "hide", "redact"]
