"""A stateful stand-in for a Keap account, written from the vendor's public documentation."""

from __future__ import annotations

from orchestrator.sandbox.keap.crm import Crm, Sold
from orchestrator.sandbox.keap.gate import Gate
from orchestrator.sandbox.keap.server import KeapServer
from orchestrator.sandbox.keap.story import ASSETS, fill

__all__ = ["ASSETS", "Crm", "Gate", "KeapServer", "Sold", "fill"]
