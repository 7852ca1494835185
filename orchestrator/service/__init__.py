"""``orchestrator up``: everything started by one command, watched over, and stopped together."""

from __future__ import annotations
