"""For authors of plug-ins: packages to begin with, and how well a connector keeps its contracts."""

from __future__ import annotations
