"""Guards everything that a process says: each record of each logger, and what it says when it dies.

Records are made harmless where they are made (``logging.setLogRecordFactory``), before any handler sees them: so also
what Prefect's handlers send to Prefect's server, and what uvicorn writes.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from types import TracebackType
from typing import Any

from orchestrator.errors import OrchestratorError
from orchestrator.logs.context import fields_now
from orchestrator.logs.redaction import redact

logger = logging.getLogger("orchestrator")
_SAFE = (OrchestratorError, ImportError, NotImplementedError)
"""Errors whose words are ours, or name nothing but code."""
_make = logging.getLogRecordFactory()


def guard() -> None:
    """Keep secrets and personal data out of the log and out of the last words of this process."""
    logging.setLogRecordFactory(_harmless)
    logging.captureWarnings(capture=True)
    sys.excepthook = _died
    threading.excepthook = _thread_died
    sys.unraisablehook = _unraisable


def told(error: BaseException) -> str:
    """Return a traceback that says where and what kind, and what it says only where that is harmless.

    The words of other people's errors may hold anything: a payload, an address, a row of a database.
    """
    lines = []
    if error.__cause__ is not None:
        lines += [told(error.__cause__), "\nwhich led to:\n"]
    elif error.__context__ is not None and not error.__suppress_context__:
        lines += [told(error.__context__), "\nduring which happened:\n"]
    lines += traceback.format_tb(error.__traceback__)
    lines.append(f"{type(error).__module__}.{type(error).__qualname__}{_words(error)}")
    if isinstance(error, BaseExceptionGroup):
        lines += [f"\nof which one is:\n{told(each)}" for each in error.exceptions]
    return redact("".join(lines))


def _words(error: BaseException) -> str:
    if isinstance(error, _SAFE):
        return f": {error}"
    if isinstance(error, OSError) and type(error).__module__ == "builtins" and error.strerror:
        return f": {error.strerror}"
    return ""


def _harmless(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = _make(*args, **kwargs)
    record.about = fields_now()
    message = _message(record)
    if (harmless := redact(message)) != message:
        record.msg, record.args = harmless, ()
    if record.exc_info and record.exc_info[1] is not None:
        record.exc_text = told(record.exc_info[1])
    return record


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - arguments that do not fit; the handler would print them all
        record.args = ()
        return str(record.msg)


def _died(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:  # noqa: ARG001
    if not isinstance(error, KeyboardInterrupt):
        _say("This process ends because of an error", error)


def _thread_died(arguments: threading.ExceptHookArgs) -> None:
    name = arguments.thread.name if arguments.thread else "?"
    if arguments.exc_value is not None and not isinstance(arguments.exc_value, SystemExit):
        _say(f"Thread {name} ends because of an error", arguments.exc_value)


def _unraisable(arguments: Any) -> None:
    if arguments.exc_value is not None:
        _say("An error came where nobody could take it", arguments.exc_value)


def _say(message: str, error: BaseException) -> None:
    """Log the last words, or print them where no log is kept."""
    if logging.getLogger().handlers:
        logger.critical(message, exc_info=error)
    else:
        sys.stderr.write(f"{message}:\n{told(error)}\n")
