"""What a plug-in is made of: two hooks, and the description of a connector."""

from __future__ import annotations

from orchestrator.plugins.connector import API, Connection, Connector, DoubtClass, Settlement
from orchestrator.plugins.hooks import (
    PROJECT,
    RegisterConnector,
    RegisterProcess,
    hookimpl,
    hookspec,
)
from orchestrator.plugins.mail_watch import MailWatch, Watchable

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
    "Watchable",
    "hookimpl",
    "hookspec",
]
