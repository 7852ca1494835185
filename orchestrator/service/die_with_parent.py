"""Runs one of the processes of ``orchestrator up``, tied to it: it ends when ``up`` is gone, however that ended.

``python -m orchestrator.service.die_with_parent FD SIGNS SECONDS NAME FORM MODULE [ARGUMENT ...]`` runs a module as
``python -m`` does. ``FD`` is the reading end of a pipe that nobody writes to: ``up`` alone holds its other end open, so
that it closes with ``up``, also at ``kill -9``. ``SIGNS`` is the writing end of a pipe for signs of life, which come
unless this process is stopped or its event loop hangs. Every Unix can do that.
"""

from __future__ import annotations

import logging
import os
import runpy
import signal
import sys
from contextlib import suppress
from threading import Event, Thread, Timer

from uvicorn.config import LOGGING_CONFIG

from orchestrator.liveness import BEAT_SECONDS, pulse
from orchestrator.logs import Form, configure
from orchestrator.private_files import create_privately

logger = logging.getLogger("orchestrator.service")


def main() -> None:
    """Run the module, tied to whoever started this process."""
    descriptor, signs, seconds, name, form, module, *arguments = sys.argv[1:]
    configure(name, Form(form))
    create_privately()
    # Prefect's server runs uvicorn as it comes, which would print in a form of its own, tracebacks over many lines.
    LOGGING_CONFIG["loggers"].clear()
    Thread(target=_end_with_parent, args=(int(descriptor), float(seconds)), name="tie", daemon=True).start()
    Thread(target=_give_signs, args=(int(signs),), name="signs", daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _give_signs(descriptor: int) -> None:
    with suppress(OSError):  # `orchestrator up` is gone
        while True:
            if pulse.is_alive:
                os.write(descriptor, b".")
            Event().wait(BEAT_SECONDS)


def _end_with_parent(descriptor: int, seconds: float) -> None:
    os.read(descriptor, 1)
    logger.warning("`orchestrator up` is gone: this process stops within %g s", seconds)
    Timer(seconds, os._exit, args=(1,)).start()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
