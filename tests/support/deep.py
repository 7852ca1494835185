"""Whether the tests that draw their cases at random draw very many of them."""

from __future__ import annotations

import os

DEEP = os.environ.get("ORCHESTRATOR_DEEP") == "1"


def cases(per_commit: int, deep: int) -> int:
    """Return how many cases to draw."""
    return deep if DEEP else per_commit
