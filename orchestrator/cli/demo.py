"""``orchestrator demo``: the whole story on this machine."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from orchestrator.cli.output import Json, complain, fields, print_json
from orchestrator.errors import ConfigurationError

CONFIG = Path("config/sandbox.toml")
ORDERS = {"shop-sql": {"order_records": "shop"}, "keap": {"order_records": "crm"}}
"""What each choice of ``--crm`` binds."""
MAIL: dict[str, dict[str, str]] = {"smtp": {}, "gmail": {"mailer": "gmail", "notifier": "gmail"}}
"""What each choice of ``--mail`` binds."""


def demo(
    *,
    once: Annotated[bool, Parameter(negative="", help="Stop when the job is done.")] = False,
    crm: Literal["shop-sql", "keap"] = "shop-sql",
    mail: Literal["smtp", "gmail"] = "smtp",
    data: Path = Path("data/sandbox"),
    json: Json = False,
) -> int:
    """Run the main job on this machine: a customer's mail comes in, a fresh link goes out, the file arrives.

    Exit code 0 only if every stage was seen to work.

    Example: ``orchestrator demo --once --crm keap``

    Args:
        once: Stop when the job is done.
        crm: Which system knows the orders: a shop's database, or Keap. Nothing but one binding differs.
        mail: Where the support address lies: with a provider that speaks SMTP and IMAP, or with Gmail.
        data: Where databases and logs lie.
        json: Print what was seen as JSON.
    """
    if not CONFIG.is_file():
        raise ConfigurationError(f"{CONFIG} is not here; start the demo in the project's directory")
    from orchestrator.sandbox.demo import Demo
    from orchestrator.sandbox.systems import Sandbox

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the systems are stopped on the way out
    with Sandbox(data, CONFIG, bindings=ORDERS[crm] | MAIL[mail]) as sandbox:
        seen = Demo(sandbox, _progress).run()
        _progress(
            f"\nThe reply lay in the mailbox {seen.reply_after_seconds:.1f} s after the start; "
            f"Prefect's own server took {seen.prefect_start_seconds:.1f} s to start meanwhile."
        )
        if json:
            print_json(fields(seen))
        if not once:
            _stay(seen.prefect_ui, sandbox.status_url)
    return 0


def _stay(prefect_ui: str, status: str) -> None:
    _progress(
        f"Prefect UI: {prefect_ui}/deployments - start lost-download from its form.\n"
        f"Gateway: {status}/ready and {status}/metrics\n"
        f"In another terminal: orchestrator --config {CONFIG} runs, inbox, decisions, audit tail, audit verify\n"
        "Ctrl-C ends the demo."
    )
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


def _progress(line: str) -> None:
    complain(line)
