from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_benchmarks_serve_every_customer_once_on_both_sides() -> None:
    """In their smallest size: what they measure then means nothing."""
    command = [sys.executable, "-m", "benchmarks", "throughput", "burst", "--small", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    figures = {each["name"].rpartition(", ")[2]: each for each in json.loads(done.stdout)["figures"]}
    assert (figures["lost"]["ours"], figures["served twice"]["ours"]) == ("0", "0")
    assert float(figures["mails a second"]["value"]) > 0
