"""For authors of connectors: HTTP within a total time, OAuth tokens, signed webhooks."""

from __future__ import annotations

from orchestrator.toolkit.deadline import TimeLimit, after, within

__all__ = ["TimeLimit", "after", "within"]
