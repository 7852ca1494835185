"""Damaged mails on the whole way in: each is stored, read, judged and filed, and none stops another."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path

from orchestrator.builtin.inbox import DeliveryState
from orchestrator.errors import RunError
from orchestrator.kernel.runs import RunState
from orchestrator.record.verify import verify
from tests.support.app_with_fakes import CONFIG, Office
from tests.support.damaged_mails import mutated
from tests.support.deep import cases

MUTANTS = cases(100, 10_000)
BATCH = 50
FILED = {DeliveryState.SETTLED, DeliveryState.FOR_PERSON}


def test_every_damaged_mail_comes_to_a_disposition(tmp_path: Path) -> None:
    office = Office(tmp_path, CONFIG)
    app = office.app
    for first in range(0, MUTANTS, BATCH):
        for number in range(first, first + BATCH):
            office.mailbox.deliver(mutated(number))
        app.intake.take_in(app.sources()[0])
        work(office)
    deliveries = app.inbox.listed(limit=MUTANTS + 1)
    assert len(deliveries) == MUTANTS
    assert {delivery.state for delivery in deliveries} == FILED
    assert all(delivery.note for delivery in deliveries), "each says why"
    triaged = Counter(run.state for run in app.runs.listed(limit=10 * MUTANTS) if run.process == "support-inbox")
    assert triaged == {RunState.DONE: MUTANTS}
    with app.record.store.read() as tx:
        assert verify(tx).breaches == ()


def work(office: Office) -> None:
    """Do what the worker does until nothing is due."""
    app = office.app
    while due := app.runs.due(limit=BATCH):
        for run_id in due:
            with app.record.store.read() as tx:
                process = app.runs.get(tx, run_id).process
            with suppress(RunError):
                app.kernel.execute(app.definition(process), run_id)
