"""The Prefect lane: runs that Prefect starts, shows and controls, executed by the kernel."""

from __future__ import annotations
