"""What a run of the Prefect lane costs, from *Run* pressed to its end, on this machine.

.venv/bin/python -m benchmarks.prefect_lane [runs]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.record.trail import Event
from orchestrator.sandbox.shop import ONE_PURCHASE
from orchestrator.sandbox.systems import Sandbox, wait_until

RUNS = 20
PATIENCE_SECONDS = 60.0
TICKS = os.sysconf("SC_CLK_TCK")


def main(runs: int) -> None:
    """Press *Run* so often, one after the other, and print what it took."""
    with tempfile.TemporaryDirectory() as data, Sandbox(Path(data), Path("config/sandbox.toml"), prefect_port=0) as box:
        box.start_systems()
        server, worker = box.start_prefect(), box.start_worker()
        box.wait_for_prefect()
        box.wait_for_worker()
        _press(box)  # the first run warms both up
        before = _cpu(server), _cpu(worker)
        timings = [_press(box) for _ in range(runs)]
        _tell(timings, runs, _cpu(server) - before[0], _cpu(worker) - before[1])


def _press(box: Sandbox) -> tuple[float, float, float]:
    """Return the seconds from *Run* pressed to the run's first event, to its first effect and to its end in Prefect."""
    deployment = box.ask_prefect("GET", "/deployments/name/lost-download/lost-download")
    form = {"parameters": {"request": {"email": ONE_PURCHASE, "product": "dress"}}}
    while True:
        pressed = datetime.now(UTC)
        created = box.ask_prefect("POST", f"/deployments/{deployment['id']}/create_flow_run", form)
        if created:
            break  # its SQLite was not busy
    flow_run = created["id"]
    app = box.application()
    ended = wait_until(lambda: _ended(box, flow_run), PATIENCE_SECONDS)
    run = app.runs.of_prefect(flow_run)
    if run is None or not ended:
        raise SystemExit(f"flow run {flow_run} has not ended")
    with app.record.store.read() as tx:
        events = app.record.trail.chain(tx, run.run_id)
    effect = next(event for event in events if event.kind == "effect.intent")
    app.record.store.close()
    return (
        (_at(events[0]) - pressed).total_seconds(),
        (_at(effect) - pressed).total_seconds(),
        (datetime.fromisoformat(ended["end_time"]) - pressed).total_seconds(),
    )


def _at(event: Event) -> datetime:
    return datetime.fromisoformat(event.at)


def _ended(box: Sandbox, flow_run: str) -> dict[str, str]:
    found = box.ask_prefect("GET", f"/flow_runs/{flow_run}") or {}
    return found if found.get("state_type") == "COMPLETED" else {}


def _cpu(process: subprocess.Popen[bytes]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _tell(timings: list[tuple[float, float, float]], runs: int, server: float, worker: float) -> None:
    for name, seconds in zip(
        ("on the record", "first effect", "end in Prefect"), zip(*timings, strict=True), strict=True
    ):
        sys.stdout.write(f"{name:16} median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s\n")
    sys.stdout.write(f"CPU a run: server {server / runs:.2f} s, worker {worker / runs:.2f} s\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else RUNS)
