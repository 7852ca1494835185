"""Figures for those who watch: what each process measured, and what stands in the store."""

from __future__ import annotations

from orchestrator.metrics.exposition import Exposition
from orchestrator.metrics.measures import Measures
from orchestrator.metrics.sharing import share

__all__ = ["Exposition", "Measures", "share"]
