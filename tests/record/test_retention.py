"""What is old is deleted by the rules of the configuration, and never what somebody still waits for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import select, update

from orchestrator.bootstrap import Application, use
from orchestrator.builtin.inbox import DeliveryState
from orchestrator.cli.inbox import inbox as command
from orchestrator.errors import NotFound, RunFailed
from orchestrator.gateway.accepting import Acceptance, Outcome
from orchestrator.gateway.dead_letters import DeadLetters
from orchestrator.kernel.runs import RunState
from orchestrator.record.clock import stamp
from orchestrator.record.record import Record
from orchestrator.record.tables import inbox, run
from orchestrator.record.trail import Actor
from orchestrator.record.verify import verify
from orchestrator.retention import BATCH_BYTES, BATCH_ROWS, InboxRetention, Vacuumed
from orchestrator.worker.vacuum import vacuum
from tests.support.clock import HandClock
from tests.support.webhooks import HOOKS, SHOP, arrival, configured, order

ANN = Actor(name="operator:ann", auth="test")
DAYS = 30
RULE = "[retention] inbox_days = 30"


@pytest.fixture
def app(record_url: str, tmp_path: Path, clock: HandClock) -> Iterator[Application]:
    app = configured(tmp_path, record_url, HOOKS, clock=clock)
    yield app
    with app.record.store.read() as tx:
        assert verify(tx).breaches == ()
    app.record.store.close()


def deliver(app: Application, number: int, body: bytes = b"", *, execute: bool = True, process: str = "serve") -> str:
    """Take a delivery in, and let its run come to its end."""
    hook = SHOP if process == "serve" else type(SHOP)(**{**vars(SHOP), "process": app.definition(process)})
    accepted = Acceptance(app.record, app.runs).accept([arrival(body or order(number), f"evt_{number}", hook)])
    if execute:
        with suppress(RunFailed):
            app.kernel.execute(app.definition(process), f"r-{accepted[0].delivery[2:]}")
    return accepted[0].delivery


def emptied(app: Application) -> set[str]:
    """Return the deliveries whose bodies are gone."""
    with app.record.store.read() as tx:
        rows = tx.execute(select(inbox)).all()
    assert all((row.nonce, row.ciphertext) == (None, None) for row in rows if row.vacuumed_at)
    return {row.delivery for row in rows if row.ciphertext is None}


def change(app: Application, table: object, condition: object, **columns: object) -> None:
    with app.record.store.write() as tx:
        tx.execute(update(table).where(condition).values(**columns))  # type: ignore[arg-type]


def events(app: Application) -> list[dict[str, object]]:
    with app.record.store.read() as tx:
        found = app.record.trail.latest(tx, limit=999)
    return [event.data for event in found if event.kind == "inbox.vacuumed"]


def test_a_body_is_deleted_when_its_days_are_over_and_the_deletion_is_on_the_record(
    app: Application, clock: HandClock
) -> None:
    old, retention = deliver(app, 1), InboxRetention(app.record, DAYS)
    clock.advance(days=DAYS)
    assert retention.vacuum() == Vacuumed()
    clock.advance(seconds=1)
    young = deliver(app, 2)
    done = retention.vacuum()
    assert done.deliveries == 1
    assert done.size > len(order(1))
    assert emptied(app) == {old}
    assert app.inbox.raw(young)[0] == order(2)
    before = stamp(clock.now - timedelta(days=DAYS))
    assert events(app) == [{"rule": RULE, "deliveries": 1, "bytes": done.size, "accepted_before": before}]
    assert retention.vacuum() == Vacuumed()
    assert len(events(app)) == 1


def test_what_is_left_of_a_delivery_says_what_it_was_and_which_rule_deleted_its_body(
    app: Application, clock: HandClock, capsys: pytest.CaptureFixture[str]
) -> None:
    delivery = deliver(app, 1, process="failing")
    clock.advance(days=DAYS + 1)
    day = f"{clock.now:%Y-%m-%d}"
    InboxRetention(app.record, DAYS).vacuum()
    said = f"the body of delivery {delivery} was deleted on {day} by the rule {RULE}"
    with pytest.raises(NotFound, match=said.replace("[", r"\[")):
        app.inbox.read(delivery)
    with pytest.raises(NotFound, match="was deleted on"):
        DeadLetters(app).rerun(delivery, ANN)
    use(app)
    command(["show", delivery], result_action="return_value")
    shown = capsys.readouterr().out
    assert said in shown
    assert "source: webhook:shop" in shown
    command(["show", delivery, "--json"], result_action="return_value")
    assert json.loads(capsys.readouterr().out)["vacuumed_by"] == RULE
    (listed,) = app.inbox.listed(limit=9)
    assert (listed.delivery, listed.state, listed.vacuumed_by) == (delivery, DeliveryState.STARTED, RULE)


def test_the_same_delivery_is_still_known_when_it_comes_again(app: Application, clock: HandClock) -> None:
    deliver(app, 1)
    clock.advance(days=DAYS + 1)
    InboxRetention(app.record, DAYS).vacuum()
    accept = Acceptance(app.record, app.runs).accept
    outcomes = [accept([arrival(body, "evt_1")])[0].outcome for body in (order(1), order(2))]
    assert outcomes == [Outcome.KNOWN, Outcome.CONFLICT]


WAITS: dict[str, Callable[[Application, str], None]] = {
    "for a person": lambda app, mine: change(app, inbox, inbox.c.delivery == mine, state=DeliveryState.FOR_PERSON),
    "as a dead letter": lambda app, mine: change(app, inbox, inbox.c.delivery == mine, state=DeliveryState.DEAD_LETTER),
    "to be filed": lambda app, mine: change(app, inbox, inbox.c.delivery == mine, state=DeliveryState.NEW),
    "parked": lambda app, mine: change(app, run, run.c.run_id == f"r-{mine[2:]}", state=RunState.PARKED),
    "for a worker": lambda app, mine: change(app, run, run.c.run_id == f"r-{mine[2:]}", state=RunState.READY),
    "under way": lambda app, mine: change(app, run, run.c.run_id == f"r-{mine[2:]}", state=RunState.RUNNING),
}


@pytest.mark.parametrize("waits", WAITS)
def test_what_still_waits_is_never_deleted(app: Application, clock: HandClock, waits: str) -> None:
    waiting, other = deliver(app, 1), deliver(app, 2)
    WAITS[waits](app, waiting)
    clock.advance(days=1000)
    InboxRetention(app.record, DAYS).vacuum()
    assert emptied(app) == {other}


@pytest.mark.parametrize("link", ["parent_run_id", "case_id"])
def test_a_body_is_kept_while_another_run_of_the_matter_goes_on(app: Application, clock: HandClock, link: str) -> None:
    mine, other = deliver(app, 1), deliver(app, 2)
    theirs = f"r-{other[2:]}"
    if link == "case_id":
        change(app, inbox, inbox.c.delivery == mine, case_id=_case_of(app, theirs))
    else:
        change(app, run, run.c.run_id == theirs, parent_run_id=f"r-{mine[2:]}")
    change(app, run, run.c.run_id == theirs, state=RunState.PARKED)
    clock.advance(days=1000)
    InboxRetention(app.record, DAYS).vacuum()
    assert emptied(app) == set()
    change(app, run, run.c.run_id == theirs, state=RunState.DONE)
    InboxRetention(app.record, DAYS).vacuum()
    assert emptied(app) == {mine, other}


def _case_of(app: Application, run_id: str) -> str | None:
    with app.record.store.read() as tx:
        return app.runs.get(tx, run_id).case_id


def test_the_days_of_a_run_that_ended_late_count_from_its_end(app: Application, clock: HandClock) -> None:
    delivery = deliver(app, 1, execute=False)
    clock.advance(days=DAYS + 1)
    app.kernel.execute(app.definition("serve"), f"r-{delivery[2:]}")
    InboxRetention(app.record, DAYS).vacuum()
    assert emptied(app) == set()
    clock.advance(days=DAYS + 1)
    InboxRetention(app.record, DAYS).vacuum()
    assert emptied(app) == {delivery}


def test_a_batch_is_small_in_rows_and_in_bytes(app: Application, clock: HandClock) -> None:
    for number in range(BATCH_ROWS + 1):
        deliver(app, number, execute=False)
    change(app, run, run.c.run_id.is_not(None), state=RunState.DONE, ended_at=stamp(clock.now))
    large = [deliver(app, 100 + n, order(100 + n, more="x" * (BATCH_BYTES * 2 // 3))) for n in range(2)]
    clock.advance(days=DAYS + 1)
    retention = InboxRetention(app.record, DAYS)
    sizes = [retention.vacuum().deliveries for _ in range(4)]
    assert sizes == [BATCH_ROWS, 2, 1, 0]
    assert set(large) <= emptied(app)


@pytest.mark.parametrize("record_url", ["postgresql"], indirect=True)
@pytest.mark.postgres
def test_a_delivery_that_somebody_holds_is_left_for_the_next_time(
    app: Application, clock: HandClock, reopen: Callable[[], Record]
) -> None:
    held, free = deliver(app, 1), deliver(app, 2)
    clock.advance(days=DAYS + 1)
    with reopen().store.write() as other:
        other.execute(select(inbox).where(inbox.c.delivery == held).with_for_update())
        InboxRetention(app.record, DAYS).vacuum()
        assert emptied(app) == {free}
    InboxRetention(app.record, DAYS).vacuum()
    assert emptied(app) == {held, free}


@pytest.mark.parametrize("record_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("days", "left"), [(0, 3), (DAYS, 0)])
def test_the_worker_deletes_what_the_settings_say(
    record_url: str, tmp_path: Path, clock: HandClock, days: int, left: int
) -> None:
    text = f"[retention]\ninbox_days = {days}\n{HOOKS}"
    app = configured(tmp_path, record_url, text, clock=clock)
    for number in range(3):
        deliver(app, number)
    clock.advance(days=DAYS + 1)
    stop = StopAfter(waits=3)
    vacuum(app, stop)
    assert len(app.inbox.listed(limit=9)) - len(emptied(app)) == left
    app.record.store.close()


class StopAfter(Event):
    """Stops a worker's thread when it has waited so often."""

    def __init__(self, *, waits: int) -> None:
        super().__init__()
        self._left = waits

    def wait(self, timeout: float | None = None) -> bool:
        self._left -= 1
        if self._left <= 0:
            self.set()
        return self.is_set()
