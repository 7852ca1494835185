from __future__ import annotations

import subprocess
import sys

STUCK = """
from threading import Event, Thread
from orchestrator.worker.shutdown import stop

stopping = Event()
Thread(target=Event().wait).start()
stop(stopping, within_seconds=0.1)
assert stopping.is_set()
"""


def test_a_program_with_a_call_that_does_not_return_is_gone_in_time() -> None:
    ended = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (
        0,
        "Stopped in the middle of something; what it was goes on elsewhere once its lease has lapsed\n",
    )
