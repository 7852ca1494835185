"""Automation orchestrator: processes, systems and one record of every run.

A process (in ``flows``) says what should happen, in the words of the business. A connector (in
``connectors``) is how one system does it. This package joins them, runs them and records every run;
it knows no vendor and no process by name.
"""

from __future__ import annotations

import os

__version__ = "0.1.0"
"""Of the distribution, too: the build reads it here."""

# Prefect would tell its makers of its first import at a terminal. This is read before anything of ours imports it.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
