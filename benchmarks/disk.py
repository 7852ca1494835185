"""The disk under a benchmark: how long it takes to flush, and how to let it take longer.

What the same work costs depends on little as much as on that: from a tenth of a millisecond on a server's disk that
survives a power cut by itself, to several on a laptop's.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

SOURCE = Path(__file__).with_name("slow_disk.c")
TRIES = 100


def flush_seconds(folder: Path) -> float:
    """Return how long a flush takes there, in the median."""
    taken = []
    with (folder / "flushed").open("wb") as file:
        for _ in range(TRIES):
            file.write(bytes(4096))
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return median(taken)


@contextmanager
def slower(milliseconds: float) -> Iterator[None]:
    """Let every flush take so much longer, in processes that are started meanwhile.

    Raises:
        OSError: There is no C compiler.
        subprocess.CalledProcessError: It does not do its work.
    """
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "slow_disk.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)  # noqa: S603, S607
        os.environ |= {"LD_PRELOAD": str(library), "FLUSH_US": str(round(milliseconds * 1000))}
        try:
            yield
        finally:
            del os.environ["LD_PRELOAD"], os.environ["FLUSH_US"]
