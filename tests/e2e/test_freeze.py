"""Workers that stand still in the middle of their mails, and wake up when others have ended their runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from orchestrator.ledger.states import CALL_GRACE
from orchestrator.record.record import Record, open_record
from orchestrator.sandbox.mail_server import MailServer
from orchestrator.testing.faults import FaultProxy
from orchestrator.toolkit.deadline import uptime
from tests.support.deep import cases
from tests.support.freeze_driver import IN_FLIGHT, PASSWORD, SEND_ONE, SHOP, TIMEOUT_SECONDS
from tests.support.gateways import wait_until
from tests.support.kernel_bench import Bench, Errand
from tests.support.paths import ROOT

DRIVER = "tests.support.freeze_driver"
WORKERS = 3
FROZEN = 2
"""So many of them stand still at the same time; the others end their runs meanwhile."""
DELIVERIES = cases(60, 1200)
FREEZE_SECONDS = TIMEOUT_SECONDS + CALL_GRACE.total_seconds() + 1.5
"""Until a look proves that the mail of a dead worker is not there, and another one has been sent."""
PATIENCE_SECONDS = 300
"""On a busy machine many mails take too long, and are tried again later and later."""


class Customers:
    """Count what each of them gets."""

    def __init__(self, names: list[str]) -> None:
        self._lock = Lock()
        self.mails: Counter[str] = Counter()
        self.routes = {name: self._mailbox(name) for name in names}

    def _mailbox(self, name: str) -> Callable[[bytes], None]:
        def take(_raw: bytes) -> None:
            with self._lock:
                self.mails[name] += 1

        return take


@contextmanager
def workers(*arguments: object) -> Iterator[list[subprocess.Popen[bytes]]]:
    command = [sys.executable, "-m", DRIVER, *map(str, arguments)]
    started = [subprocess.Popen(command, cwd=ROOT) for _ in range(WORKERS)]
    try:
        yield started
    finally:
        for worker in started:
            worker.kill()
            worker.wait()


def freeze(frozen: list[subprocess.Popen[bytes]]) -> None:
    for worker in frozen:
        os.kill(worker.pid, signal.SIGSTOP)
    thaw_at = uptime() + FREEZE_SECONDS
    wait_until(lambda: uptime() > thaw_at)
    for worker in frozen:
        os.kill(worker.pid, signal.SIGCONT)


def test_no_customer_gets_two_mails_of_workers_that_were_frozen(tmp_path: Path) -> None:
    names = [f"customer-{number}@example.com" for number in range(DELIVERIES)]
    customers, url = Customers(names), f"sqlite:///{tmp_path}/record.db"
    record = open_record(url, tmp_path / "key")
    bench = Bench(record, object())
    with (
        MailServer({SHOP: PASSWORD}, routes=customers.routes) as server,
        FaultProxy("127.0.0.1", server.smtp_port) as line,
        workers(url, tmp_path, line.port, server.imap_port) as started,
    ):
        line.delay(at_most=0.1)
        for batch in range(0, DELIVERIES, WORKERS * IN_FLIGHT):
            runs = [bench.open(SEND_ONE, Errand(email=name)) for name in names[batch : batch + WORKERS * IN_FLIGHT]]
            sent = customers.mails.total()
            wait_until(lambda sent=sent: customers.mails.total() > sent + 3)
            freeze(started[:FROZEN])
            wait_until(lambda runs=runs: all(bench.run(run_id).ended_at for run_id in runs), PATIENCE_SECONDS)
    doubts = sum(bench.kinds(run_id).count("effect.in_doubt") for run_id in all_runs(record))
    record.store.close()
    assert doubts > DELIVERIES / 20, "the workers must have stood still in the middle of mails"
    assert customers.mails == Counter(names)


def all_runs(record: Record) -> list[str]:
    return [run.run_id for run in Bench(record, object()).runs.listed(limit=2 * DELIVERIES)]
