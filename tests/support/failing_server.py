"""A web server that fails at each request, run by uvicorn as Prefect runs its own: the argument is its port."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn

WORDS = "Anna Berg lives in Bergen"


async def fail(scope: dict[str, Any], _receive: Any, _send: Any) -> None:
    if scope["type"] == "http":
        raise RuntimeError(WORDS)


if __name__ == "__main__":
    uvicorn.run(fail, port=int(sys.argv[1]), log_level="warning")
