"""The processes of one machine share what they measure through small files, which the gateway adds up.

prometheus-client does the work (its "multiprocess mode"): each process writes to memory-mapped files of its own. They
are named by a place that the process keeps while it lives, not by its id: so a process that is started again counts on
where the one before it stopped, and files do not pile up.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock, Timeout
from prometheus_client import CollectorRegistry, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from orchestrator.private_files import private_folder

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_places: list[FileLock] = []


def share(directory: Path) -> None:
    """Write what this process measures from now on to a directory; call it before anything is measured.

    Args:
        directory: Where the files lie, those of the other processes too.
    """
    private_folder(directory)
    os.environ[VARIABLE] = str(directory)
    place = _free_place(directory)
    values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]


def shared() -> Iterable[Metric] | None:
    """Return what all processes measured; None if this one shares nothing."""
    directory = os.environ.get(VARIABLE)
    if directory is None:
        return None
    collector = MultiProcessCollector(CollectorRegistry(), path=directory)  # type: ignore[no-untyped-call]
    metrics: Iterable[Metric] = collector.collect()  # type: ignore[no-untyped-call]
    return metrics


def clear(directory: Path) -> None:
    """Forget what was measured, before the first process starts: a crash of the machine may have left half a file."""
    for file in directory.glob("*.db"):
        file.unlink()


def _free_place(directory: Path) -> int:
    """Take the first place that no living process has."""
    for number in itertools.count():
        lock = FileLock(directory / f"{number}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        _places.append(lock)
        return number
    raise AssertionError
