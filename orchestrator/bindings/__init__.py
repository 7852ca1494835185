"""Joins the configuration and the plug-ins: which connection answers what each process needs."""

from __future__ import annotations

from orchestrator.bindings.checks import ConnectionCheck, check_connections
from orchestrator.bindings.connections import Connections, connect
from orchestrator.settings import HOST, Problem

__all__ = ["HOST", "ConnectionCheck", "Connections", "Problem", "check_connections", "connect"]
