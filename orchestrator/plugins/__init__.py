"""What a plug-in is made of: two hooks, the description of a connector, and a deadline for its calls."""

from __future__ import annotations

from orchestrator.plugins.connector import API, Connection, Connector, DoubtClass, Settlement
from orchestrator.plugins.deadline import TimeLimit, after, within
from orchestrator.plugins.hooks import (
    PROJECT,
    RegisterConnector,
    RegisterProcess,
    hookimpl,
    hookspec,
)
from orchestrator.plugins.watching import MailWatch, Watchable

__all__ = [
    "API",
    "PROJECT",
    "Connection",
    "Connector",
    "DoubtClass",
    "MailWatch",
    "RegisterConnector",
    "RegisterProcess",
    "Settlement",
    "TimeLimit",
    "Watchable",
    "after",
    "hookimpl",
    "hookspec",
    "within",
]
