"""What a plug-in is made of: three hooks, and the descriptions of a capability and of a connector."""

from __future__ import annotations

from orchestrator.plugins.capability import Capabilities, Capability
from orchestrator.plugins.connector import API, Connection, Connector, DoubtClass, Settlement
from orchestrator.plugins.effect_ids import with_effect_id
from orchestrator.plugins.hooks import (
    PROJECT,
    RegisterCapability,
    RegisterConnector,
    RegisterProcess,
    hookimpl,
    hookspec,
)
from orchestrator.plugins.mail_watch import MailWatch, Watchable

__all__ = [
    "API",
    "PROJECT",
    "Capabilities",
    "Capability",
    "Connection",
    "Connector",
    "DoubtClass",
    "MailWatch",
    "RegisterCapability",
    "RegisterConnector",
    "RegisterProcess",
    "Settlement",
    "Watchable",
    "hookimpl",
    "hookspec",
    "with_effect_id",
]
