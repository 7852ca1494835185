"""Measure the main job beside the floor: ``python -m benchmarks [latency] [throughput] [burst] [idle] [--json]``."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.disk import flush_seconds, slower
from benchmarks.measures import Served, burst, idle_cpu, serve
from benchmarks.sides import Counterparts, Side, counterparts, floor, ours

MILLI = 1000.0
IDLE_MOST, IDLE_BAR = 0.01, "< 1% of a core"
MEMORY = "memory and time to be ready"
Tick = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table.

    Args:
        name: What was measured.
        floor: The floor's value, if it was measured there.
        ours: Ours.
        value: What the bar is about: mostly the ratio.
        bar: The bar, in words; empty if there is none.
        holds: Whether the bar holds.
    """

    name: str
    floor: str = ""
    ours: str
    value: str = ""
    bar: str = ""
    holds: bool = True


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured."""

    rounds: int
    customers: int
    burst: int
    connections: int
    idle_seconds: float


FULL = Sizes(rounds=5, customers=60, burst=1000, connections=100, idle_seconds=20)
SMALL = Sizes(rounds=1, customers=5, burst=20, connections=5, idle_seconds=0.2)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Both sides, ready, and how much is measured of them."""

    around: Counterparts
    floor: Side
    ours: Side
    sizes: Sizes

    async def interleaved(
        self, measure: Callable[[Side], Awaitable[Served]], tick: Tick
    ) -> tuple[list[Served], list[Served]]:
        """Measure one side after the other, round after round, so that both see the same machine."""
        seen: dict[str, list[Served]] = {"floor": [], "ours": []}
        for number in range(self.sizes.rounds):
            for side in (self.floor, self.ours) if number % 2 == 0 else (self.ours, self.floor):
                seen[side.name].append(await measure(side))
                tick()
        return seen["floor"], seen["ours"]


async def latency(bench: Bench, tick: Tick) -> Iterable[Figure]:
    """One customer at a time: from the webhook to the mail."""
    mails, customers = bench.around.mails, bench.sizes.customers
    seen = await bench.interleaved(lambda side: serve(side, mails, customers, at_once=1), tick)
    return [_ratio("one at a time, webhook to mail", seen, lambda served: served.median * MILLI, "ms", most=1.2)]


async def throughput(bench: Bench, tick: Tick) -> Iterable[Figure]:
    """Twenty customers at once: mails a second, and CPU for each."""
    mails, customers = bench.around.mails, 4 * bench.sizes.customers
    seen = await bench.interleaved(lambda side: serve(side, mails, customers, at_once=20), tick)
    return [
        _ratio("20 at once, mails a second", seen, lambda served: served.a_second, "/s", least=0.9),
        _ratio("20 at once, CPU a run", seen, lambda served: served.cpu * MILLI, "ms", most=2.0),
    ]


async def bursts(bench: Bench, tick: Tick) -> Iterable[Figure]:
    """A burst of webhooks: none lost, none served twice, and each answered soon."""
    mails, sizes = bench.around.mails, bench.sizes
    seen = await bench.interleaved(lambda side: burst(side, mails, sizes.burst, connections=sizes.connections), tick)
    name = f"burst of {sizes.burst} over {sizes.connections} connections"
    lost, twice = (sum(getattr(each, what) for each in seen[1]) for what in ("lost", "twice"))
    return [
        _ratio(f"{name}, accept p99", seen, lambda served: served.accept_p99 * MILLI, "ms", most=2.0),
        Figure(name=f"{name}, lost", ours=str(lost), bar="0", holds=lost == 0),
        Figure(name=f"{name}, served twice", ours=str(twice), bar="0", holds=twice == 0),
    ]


async def idle(bench: Bench, tick: Tick) -> Iterable[Figure]:
    """Doing nothing: CPU, memory, and how long each process took to be ready."""
    used = await idle_cpu(bench.ours, bench.sizes.idle_seconds)
    for _ in range(2 * bench.sizes.rounds):
        tick()
    bar = Figure(name="idle, CPU of gateway and worker", ours=f"{used:.2%}", bar=IDLE_BAR, holds=used < IDLE_MOST)
    told = {
        side.name: {name: f"{mb:.0f} MB, {side.started[name]:.1f} s" for name, mb in side.memory().items()}
        for side in (bench.floor, bench.ours)
    }
    return [
        bar,
        *(Figure(name=f"{name}, {MEMORY}", floor=each, ours="") for name, each in told["floor"].items()),
        *(Figure(name=f"{name}, {MEMORY}", ours=each) for name, each in told["ours"].items()),
    ]


BENCHMARKS = {"latency": latency, "throughput": throughput, "burst": bursts, "idle": idle}


async def run(names: Iterable[str], sizes: Sizes, progress: Progress) -> list[Figure]:
    """Start both sides and run benchmarks.

    Args:
        names: Of ``BENCHMARKS``.
        sizes: How much is measured.
        progress: Shows how far it is.
    """
    figures: list[Figure] = []
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        starting = progress.add_task("starting both sides", total=None)
        around = await stack.enter_async_context(counterparts())
        bench = Bench(
            around=around,
            floor=await stack.enter_async_context(floor(around, folder)),
            ours=await stack.enter_async_context(ours(around, folder)),
            sizes=sizes,
        )
        progress.remove_task(starting)
        for name in names:
            task = progress.add_task(name, total=2 * sizes.rounds)
            figures += await BENCHMARKS[name](bench, lambda task=task: progress.advance(task))  # type: ignore[misc]
    return figures


def _ratio(
    name: str,
    seen: tuple[list[Served], list[Served]],
    value: Callable[[Served], float],
    unit: str,
    *,
    most: float | None = None,
    least: float | None = None,
) -> Figure:
    """Compare the medians of the rounds' ratios: each round's two measurements saw the same machine."""
    ratio = median(value(mine) / value(theirs) for theirs, mine in zip(*seen, strict=True))
    return Figure(
        name=name,
        floor=f"{median(map(value, seen[0])):.1f} {unit}",
        ours=f"{median(map(value, seen[1])):.1f} {unit}",
        value=f"{ratio:.2f}",
        bar=f"<= {most}" if most is not None else f">= {least}",
        holds=(most is None or ratio <= most) and (least is None or ratio >= least),
    )


def _table(figures: Iterable[Figure]) -> Table:
    table = Table("measured", "floor", "ours", "ratio", "bar", "holds")
    for figure in figures:
        holds = ("yes" if figure.holds else "[bold]NO[/bold]") if figure.bar else ""
        table.add_row(figure.name, figure.floor, figure.ours, figure.value, figure.bar, holds)
    return table


def main() -> int:
    """Measure, and print what was measured; 1 if a bar is missed."""
    parser = ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="benchmark", help=f"of: {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--small", action="store_true", help="only see whether the benchmarks work")
    parser.add_argument(
        "--flush-ms", type=float, default=0, help="let the disk take so much longer (needs a C compiler)"
    )
    options = parser.parse_args()
    if unknown := set(options.names) - BENCHMARKS.keys():
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(BENCHMARKS)}")
    if options.flush_ms and shutil.which("cc") is None:
        parser.error("--flush-ms needs a C compiler (cc); without it, the disk is measured as it is")
    with ExitStack() as stack:
        flush = MILLI * flush_seconds(Path(stack.enter_context(tempfile.TemporaryDirectory()))) + options.flush_ms
        if options.flush_ms:
            stack.enter_context(slower(options.flush_ms))
        progress = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
        names = options.names or list(BENCHMARKS)
        figures = asyncio.run(run(names, SMALL if options.small else FULL, progress))
    load = os.getloadavg()[0]
    if options.json:
        told = {"load": load, "flush_ms": flush, "figures": [asdict(figure) for figure in figures]}
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    else:
        machine = f"A flush of this disk takes {flush:.2f} ms; load at the end: {load:.1f} on {os.cpu_count()} cores"
        Console().print(_table(figures), machine)
    return 0 if options.small or all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
