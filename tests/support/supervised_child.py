"""A process that a supervisor keeps; its arguments are NAME, FOLDER and HOW. FOLDER shows that it runs."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from threading import Event


def main() -> None:
    name, folder, how = sys.argv[1], Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else ""
    if how == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with (folder / name).open("a") as log:
        log.write(f"{os.getpid()}\n")
    if how.startswith("ends "):
        sys.exit(int(how.removeprefix("ends ")))
    Event().wait()


main()
