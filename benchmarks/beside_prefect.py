"""A burst of webhooks while Prefect's server runs on the same machine, and how long Prefect takes to show the runs.

.venv/bin/python -m benchmarks.beside_prefect [webhooks]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from benchmarks.measures import burst
from benchmarks.sides import FIRST, counterparts, floor, ours, prefect_server

WEBHOOKS, CONNECTIONS = 1000, 100
LOOK_SECONDS = 5.0
LOOKS = 180


async def main(webhooks: int) -> int:
    """Measure and print; 1 if a customer was lost or served twice, or if a run is not in Prefect after all."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        around = await stack.enter_async_context(counterparts())
        api = await stack.enter_async_context(prefect_server(folder))
        plain = await stack.enter_async_context(floor(around, folder))
        side = await stack.enter_async_context(ours(around, folder, prefect=api))
        await _until_in_prefect(api, FIRST)  # then it is warm
        theirs = await burst(plain, around.mails, webhooks, connections=CONNECTIONS)
        began = time.monotonic()
        mine = await burst(side, around.mails, webhooks, connections=CONNECTIONS)
        ratio = mine.accept_p99 / theirs.accept_p99
        _say(f"accept p99 {mine.accept_p99 * 1000:.0f} ms, floor {theirs.accept_p99 * 1000:.0f} ms, ratio {ratio:.2f}")
        _say(f"{mine.lost} lost, {mine.twice} served twice; all served after {mine.took:.1f} s")
        all_shown = await _until_in_prefect(api, FIRST + webhooks)
        seconds = time.monotonic() - began
        _say(f"in Prefect after {seconds:.0f} s: {webhooks / seconds:.1f} runs a second")
        return int(mine.lost + mine.twice > 0 or not all_shown)


async def _until_in_prefect(api: str, count: int) -> bool:
    for _ in range(LOOKS):
        if await _in_prefect(api) >= count:
            return True
        await asyncio.sleep(LOOK_SECONDS)
    return False


async def _in_prefect(api: str) -> int:
    async with httpx.AsyncClient(timeout=LOOK_SECONDS) as client:
        try:
            return int((await client.post(f"{api}/flow_runs/count", json={})).raise_for_status().json())
        except httpx.HTTPError:
            return 0  # it is busy


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else WEBHOOKS)))
