"""``orchestrator run``."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated, Any

from cyclopts import Parameter

from orchestrator.bootstrap import application
from orchestrator.cli.given import given_line
from orchestrator.cli.output import Json, print_json, say
from orchestrator.errors import ConfigurationError, RunError


def run(
    process: str,
    *form: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    json: Json = False,
    debug: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Execute a process now. Exit code 1 if it has not come to its end.

    The fields of its form are options; ``orchestrator processes PROCESS`` lists them. ``-`` stands for a line of
    standard input, so that no address need stand on the command line. The worker shows the run in Prefect.

    Example: ``orchestrator run lost-download --email - --product watercolor``

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
    request = app.processes[process].read(_fields(form, definition.request.model_fields))
    run_id = app.open_run(definition, request)
    try:
        result = app.kernel.execute(definition, run_id)
    except RunError as exc:
        if debug:
            traceback.print_exception(_first(exc))
        _tell({"run": run_id, "state": type(exc).__name__, "reason": str(exc)}, as_json=json)
        return 1
    _tell({"run": run_id, "state": "done", "result": result}, as_json=json)
    return 0


def _first(error: BaseException) -> BaseException:
    """Return what an error of ours goes back to."""
    while before := error.__cause__ or error.__context__:
        error = before
    return error


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
    say(f"What happened: orchestrator audit show {result['run']}")
