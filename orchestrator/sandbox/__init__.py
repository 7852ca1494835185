"""Real local servers to try processes and connectors against: nothing here leaves this computer."""

from __future__ import annotations
