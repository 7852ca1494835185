"""A worker that sends mails by SMTP until it is killed; the test that started it freezes and thaws it.

Its arguments are the record's database, the folder of its key, and the ports of SMTP and IMAP.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Event

from orchestrator.errors import RunError
from orchestrator.kernel.runs import Run, Runs
from orchestrator.record.record import open_record
from orchestrator_connectors.mail import ImapSettings, MailAccount, MailSettings, SmtpSettings
from tests.support.kernel_bench import Bench, process, send_one

SHOP, PASSWORD = "support@shop.example", "shop"
TIMEOUT_SECONDS = 1.0
IN_FLIGHT = 25
SEND_ONE = process(send_one)


def account(smtp_port: int, imap_port: int) -> MailAccount:
    """Return an account whose provider files what it sends, and whose doubts are settled by a look."""
    imap = {"host": "127.0.0.1", "port": imap_port, "security": "plain", "username": SHOP, "password": PASSWORD}
    return MailAccount(
        MailSettings(
            address=SHOP,
            smtp=SmtpSettings(host="127.0.0.1", port=smtp_port, security="plain"),
            imap=ImapSettings.model_validate(imap | {"sent_folder": "Sent"}),
            timeout_seconds=TIMEOUT_SECONDS,
            visibility_delay_seconds=0,
        )
    )


def main() -> None:
    """Execute whatever is due, many runs at once."""
    url, folder, smtp_port, imap_port = sys.argv[1:]
    record = open_record(url, Path(folder) / "key")
    runs = Runs(record, lease=timedelta(seconds=2 * TIMEOUT_SECONDS))
    bench = Bench(record, account(int(smtp_port), int(imap_port)), owner=f"worker-{os.getpid()}", runs=runs)

    def go_on(run: Run) -> None:
        with suppress(RunError):
            bench.kernel.go_on(SEND_ONE, run)

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        while True:
            claimed = bench.kernel.claim(most=IN_FLIGHT, processes=[SEND_ONE.name]).runs
            list(pool.map(go_on, claimed))
            Event().wait(0 if claimed else 0.05)


if __name__ == "__main__":
    main()
