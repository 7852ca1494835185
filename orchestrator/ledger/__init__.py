"""The effect ledger: every outward change is once, or parked with the evidence."""

from __future__ import annotations
