"""A project to begin a business with."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).with_name("project")
"""What ``orchestrator init`` writes."""
