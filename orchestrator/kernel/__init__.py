"""The kernel: executes every run, from the record and onto the record."""

from __future__ import annotations
