"""Connectors: how one system does it, one file each."""

from __future__ import annotations
