"""``orchestrator run``."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated, Any

from cyclopts import Parameter

from orchestrator.bootstrap import Application, application
from orchestrator.cli.given import given_line
from orchestrator.cli.output import Json, print_json, say
from orchestrator.errors import ConfigurationError, LeaseLost, RunError, RunParked, RunPostponed
from orchestrator.record.heartbeat import ALIVE, WORKER, last_beat
from orchestrator.record.store import UNWRITABLE

GOES_ON, WAITS_FOR_PERSON, INTERRUPTED = 3, 4, 130
"""Exit codes."""


def run(
    process: str,
    *form: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    json: Json = False,
    debug: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Execute a process now.

    The fields of its form are options; ``orchestrator processes PROCESS`` lists them. ``-`` stands for a line of
    standard input, so that no address need stand on the command line. The worker shows the run in Prefect.

    Example: ``orchestrator run lost-download --email - --product watercolor``

    Exit codes: 0 if it is done; 1 if it failed or was cancelled; 3 if it goes on by itself, executed by a worker;
    4 if it waits for a person; 130 if it was interrupted, and goes on by itself as well. Only after 1 can it be right
    to start it again.

    Args:
        process: The process.
        form: The fields of its form.
        json: Print JSON.
        debug: Show the words of an error on this terminal. They may name persons: neither log nor record gets them.
    """
    if debug and not sys.stderr.isatty():
        raise ConfigurationError("--debug shows what errors say on a terminal alone: what is redirected may be kept")
    app = application()
    definition = app.definition(process)
    request = definition.read(_fields(form, definition.request.model_fields))
    run_id = app.open_run(definition, request)
    try:
        result = app.kernel.execute(definition, run_id)
    except KeyboardInterrupt as exc:
        return _goes_on(app, run_id, exc, "interrupted", as_json=json, code=INTERRUPTED)
    except UNWRITABLE as exc:
        return _goes_on(app, run_id, exc, "the record cannot be written now", as_json=json)
    except RunError as exc:
        if debug:
            traceback.print_exception(_first(exc))
        if isinstance(exc, RunPostponed | LeaseLost):
            return _goes_on(app, run_id, exc, str(exc), as_json=json)
        _tell({"run": run_id, "state": type(exc).__name__, "reason": str(exc)}, as_json=json)
        return WAITS_FOR_PERSON if isinstance(exc, RunParked) else 1
    _tell({"run": run_id, "state": "done", "result": result}, as_json=json)
    return 0


def _first(error: BaseException) -> BaseException:
    """Return what an error of ours goes back to."""
    while before := error.__cause__ or error.__context__:
        error = before
    return error


def _goes_on(
    app: Application, run_id: str, why: BaseException, reason: str, *, as_json: bool, code: int = GOES_ON
) -> int:
    """Say that a run needs nobody to start it again: that would do everything twice."""
    at = f" at {why.due_at:%Y-%m-%d %H:%M:%S} UTC" if isinstance(why, RunPostponed) else ""
    worker = "executed by a worker" if _has_worker(app) else "once a worker runs (orchestrator worker)"
    also = f"It goes on by itself{at}, {worker}. Do not start it again."
    _tell({"run": run_id, "state": type(why).__name__, "reason": reason, "goes_on": also}, as_json=as_json)
    return code


def _has_worker(app: Application) -> bool:
    try:
        with app.record.store.read() as tx:
            seen_at = last_beat(tx, WORKER)
    except UNWRITABLE:
        return False
    return seen_at is not None and app.record.clock() - seen_at < ALIVE


def _fields(form: tuple[str, ...], known: Any) -> dict[str, str]:
    """Read ``--field value`` and ``--field=value``."""
    given: dict[str, str] = {}
    words = list(form)
    while words:
        name, _, value = words.pop(0).partition("=")
        field = name.removeprefix("--").replace("-", "_")
        if not name.startswith("--") or field not in known:
            options = ", ".join(f"--{field.replace('_', '-')}" for field in known)
            raise ConfigurationError(f"{name} is no field of this form; its fields are {options}")
        if "=" not in name and not value:
            value = words.pop(0) if words and not words[0].startswith("--") else "true"
        given[field] = given_line(f"--{field.replace('_', '-')}", value)
    return given


def _tell(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    say(f"Run {result['run']}: {result.get('reason') or result['state']}")
    if "goes_on" in result:
        say(result["goes_on"])
    say(f"What happened: orchestrator audit show {result['run']}")
