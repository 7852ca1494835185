"""A stateful stand-in for a Keap account, written from the vendor's public documentation."""

from __future__ import annotations

from orchestrator.sandbox.keap.crm import Crm, Sold
from orchestrator.sandbox.keap.gate import Gate
from orchestrator.sandbox.keap.seed import ASSETS, fill
from orchestrator.sandbox.keap.server import KeapServer

__all__ = ["ASSETS", "Crm", "Gate", "KeapServer", "Sold", "fill"]
