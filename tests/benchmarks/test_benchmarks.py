from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

SLOWER = """
import subprocess, sys
from benchmarks.disk import slower
flush = "import os; file = open(sys.argv[1], 'wb'); os.fsync(file.fileno()); os.fdatasync(file.fileno())"
timed = f"import sys, time; began = time.perf_counter(); {flush}; print(time.perf_counter() - began)"
with slower(30):
    subprocess.run([sys.executable, "-c", timed, sys.argv[1]], check=True)
subprocess.run([sys.executable, "-c", "import os; print('LD_PRELOAD' in os.environ)"], check=True)
"""


def test_the_benchmarks_serve_every_customer_once_on_both_sides() -> None:
    """In their smallest size: what they measure then means nothing."""
    command = [sys.executable, "-m", "benchmarks", "throughput", "burst", "--small", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    figures = {each["name"].rpartition(", ")[2]: each for each in json.loads(done.stdout)["figures"]}
    assert (figures["lost"]["ours"], figures["served twice"]["ours"]) == ("0", "0")
    assert float(figures["mails a second"]["value"]) > 0


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_a_disk_can_be_made_slower(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SLOWER, str(tmp_path / "flushed")]
    seconds, left = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert float(seconds) > 0.06
    assert left == "False"


def test_growth_is_measured_on_seeded_records_that_verify(tmp_path: Path) -> None:
    def growth(*arguments: str) -> str:
        command = [sys.executable, "-m", "benchmarks.growth", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300).stdout

    few, more = (f"sqlite:///{tmp_path}/{name}.db" for name in ("few", "more"))
    growth("seed", few, "--runs", "20")
    growth("seed", more, "--runs", "40")
    assert "one run, from its delivery to its end" in growth("compare", few, more)
    assert "'wrong': 0" in growth("verify", more)
