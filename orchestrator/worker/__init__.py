"""The worker: takes mail in, executes what is due, executes what Prefect starts, and shows runs in Prefect."""

from __future__ import annotations
