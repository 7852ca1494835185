"""Runs one of the processes of ``orchestrator up``, tied to it: it ends when ``up`` is gone, however that ended.

``python -m orchestrator.service.tied FD SECONDS NAME FORM MODULE [ARGUMENT ...]`` runs a module as ``python -m`` does.
``FD`` is the reading end of a pipe that nobody writes to: its other end is held open by ``up`` alone, so that it closes
with ``up``, also at ``kill -9``. Every Unix can do that.
"""

from __future__ import annotations

import logging
import os
import runpy
import signal
import sys
from threading import Thread, Timer

from orchestrator.logs import Form, configure
from orchestrator.private_files import create_privately

logger = logging.getLogger("orchestrator.service")


def main() -> None:
    """Run the module, tied to whoever started this process."""
    descriptor, seconds, name, form, module, *arguments = sys.argv[1:]
    configure(name, Form(form))
    create_privately()
    Thread(target=_end_with_parent, args=(int(descriptor), float(seconds)), name="tie", daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with_parent(descriptor: int, seconds: float) -> None:
    os.read(descriptor, 1)
    logger.warning("`orchestrator up` is gone: this process stops within %g s", seconds)
    Timer(seconds, os._exit, args=(1,)).start()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
