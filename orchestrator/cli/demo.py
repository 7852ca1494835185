"""``orchestrator demo``: the whole story on this machine."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from orchestrator.cli.output import Json, complain, fields, print_json
from orchestrator.config_file import CONFIG_PLACES, CONFIG_VARIABLE
from orchestrator.errors import ConfigurationError
from orchestrator.settings import PluginSettings, load_settings

if TYPE_CHECKING:
    from orchestrator.sandbox.systems import Sandbox

ORDERS = {"shop-sql": {"order_records": "shop"}, "keap": {"order_records": "crm"}}
"""What each choice of ``--crm`` binds."""
MAIL: dict[str, dict[str, str]] = {"smtp": {}, "gmail": {"mailer": "gmail", "notifier": "gmail"}}
"""What each choice of ``--mail`` binds."""
BESIDE = ("check", "runs", "inbox", "decisions", "audit tail", "audit verify")
"""Commands to begin with, in another terminal."""


def demo(
    *,
    once: Annotated[bool, Parameter(negative="", help="Stop when the job is done.")] = False,
    crm: Literal["shop-sql", "keap"] = "shop-sql",
    mail: Literal["smtp", "gmail"] = "smtp",
    data: Path = Path("data/sandbox"),
    json: Json = False,
) -> int:
    """Run the main job on this machine: a customer's mail comes in, a fresh link goes out, the file arrives.

    In a project's folder, the processes are the project's; all else is the demo's own.

    Exit code 0 only if every stage was seen to work.

    Example: ``orchestrator demo --once --crm keap``

    Args:
        once: Stop when the job is done.
        crm: Which system knows the orders: a shop's database, or Keap. Nothing but one binding differs.
        mail: Where the support address lies: with a provider that speaks SMTP and IMAP, or with Gmail.
        data: Where databases, logs and the configuration of the demo lie; all of it starts from scratch each time.
        json: Print what was seen as JSON.
    """
    if CONFIG_VARIABLE in os.environ:
        raise ConfigurationError(
            f"the demo has a configuration of its own, {data}/orchestrator.toml: leave out --config, and unset "
            f"${CONFIG_VARIABLE}; to run yours, call: orchestrator up"
        )
    try:
        from orchestrator.sandbox.demo import Demo
        from orchestrator.sandbox.systems import Sandbox
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            f"the demo's systems are not installed ({exc.name}): pip install 'process-orchestrator[sandbox]'"
        ) from exc
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the systems are stopped on the way out
    with Sandbox(data, bindings=ORDERS[crm] | MAIL[mail], plugins=_plugins()) as sandbox:
        seen = Demo(sandbox, _progress).run()
        _progress(
            f"\nThe reply lay in the mailbox {seen.reply_after_seconds:.1f} s after the start; "
            f"Prefect's own server took {seen.prefect_start_seconds:.1f} s to start meanwhile."
        )
        if json:
            print_json(fields(seen))
        if not once:
            _stay(sandbox)
    return 0


def _plugins() -> PluginSettings | None:
    """Return the plug-ins of the project in this folder, if there is one."""
    project = next((place for place in CONFIG_PLACES if place.is_file()), None)
    return load_settings(project, {}).plugins if project else None


def _stay(sandbox: Sandbox) -> None:
    for line in _what_next(sandbox):
        _progress(line)
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


def _what_next(sandbox: Sandbox) -> Iterator[str]:
    """Say what somebody can look at and do; commands can be pasted into another terminal, in whatever folder."""
    from orchestrator.prefect_lane.auth import how_to_sign_in
    from orchestrator.sandbox.customer import SUPPORT
    from orchestrator.sandbox.shop import THREE_PURCHASES
    from orchestrator.sandbox.systems import PASSWORD, STRANGER, customers

    python, config = shlex.quote(sys.executable), shlex.quote(str(sandbox.config))
    words = shlex.join([THREE_PURCHASES, "I lost my download", "I lost my download of the raglan sweater pattern."])
    yield f"\nPrefect UI: {sandbox.prefect_url} - start lost-download from its form, under Deployments."
    yield f"To sign in there, {how_to_sign_in(sandbox.settings())}."
    yield f"Service: {sandbox.status_url}/ready and {sandbox.status_url}/metrics"
    yield f"Mail provider: SMTP 127.0.0.1:{sandbox.mail.smtp_port}, IMAP 127.0.0.1:{sandbox.mail.imap_port}, no TLS."
    yield f"Its mailboxes, each with the password {PASSWORD}: {', '.join([SUPPORT, *customers(), STRANGER])}"
    yield "In another terminal, write as a customer:"
    yield f"    {python} -m orchestrator.sandbox.customer {sandbox.mail.smtp_port} {words}"
    yield "See whether everything works, and what became of it:"
    yield from (f"    {python} -m orchestrator --config {config} {command}" for command in BESIDE)
    yield "Ctrl-C ends the demo."


def _progress(line: str) -> None:
    complain(line)
