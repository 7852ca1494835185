"""The restore drill of docs/production.md: a backup taken while work goes on, restored elsewhere, with the key file."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from orchestrator.bootstrap import Application
from orchestrator.errors import ConfigurationError
from orchestrator.gateway.accepting import Acceptance, Outcome
from orchestrator.kernel.runs import RunState
from orchestrator.record.record import Record, open_record
from orchestrator.record.verify import verify
from tests.support.clock import HandClock
from tests.support.postgres import PostgresServer
from tests.support.webhooks import HOOKS, arrival, configured, order


@pytest.fixture
def app(record_url: str, tmp_path: Path, clock: HandClock) -> Iterator[Application]:
    """One run done, and one that waits for a worker."""
    app = configured(tmp_path, record_url, HOOKS, clock=clock)
    accepted = Acceptance(app.record, app.runs).accept([arrival(order(n), f"evt_{n}") for n in (1, 2)])
    app.kernel.execute(app.definition("serve"), f"r-{accepted[0].delivery[2:]}")
    yield app
    app.record.store.close()


@pytest.fixture
def backup(app: Application, record_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database restored from a backup that was taken in the middle of a write."""
    with app.record.store.write():
        if app.record.store.dialect == "sqlite":
            return _copied(Path(record_url.removeprefix("sqlite:///")), tmp_path / "restored.db")
        return _dumped(request.getfixturevalue("postgres_server"), record_url, tmp_path / "dump")


def _copied(database: Path, copy: Path) -> str:
    """Do what ``sqlite3 DATABASE ".backup COPY"`` does."""
    source, target = sqlite3.connect(database), sqlite3.connect(copy)
    source.backup(target)
    source.close()
    target.close()
    return f"sqlite:///{copy}"


def _dumped(server: PostgresServer, url: str, dump: Path) -> str:
    restored, plain = server.new_database(), re.compile(r"\+psycopg")
    for command in (
        ["pg_dump", "--format=custom", f"--file={dump}", plain.sub("", url)],
        ["pg_restore", "--exit-on-error", f"--dbname={plain.sub('', restored)}", str(dump)],
    ):
        subprocess.run([server.binaries / command[0], *command[1:]], check=True, timeout=60)
    return restored


def test_a_restored_record_verifies_and_work_goes_on_where_it_stood(
    app: Application, backup: str, tmp_path: Path, clock: HandClock
) -> None:
    restored = tmp_path / "elsewhere"
    restored.mkdir(mode=0o700)
    (restored / "keys").mkdir(mode=0o700)
    shutil.copy2(app.settings.store.key_file, restored / "keys" / "key")
    again = configured(restored, backup, HOOKS, clock=clock)
    with again.record.store.read() as tx:
        assert verify(tx).breaches == ()
    (waiting,) = again.runs.due(limit=9)
    again.kernel.execute(again.definition("serve"), waiting)
    assert {run.state for run in again.runs.listed(limit=9)} == {RunState.DONE}
    assert {again.inbox.raw(found.delivery)[0] for found in again.inbox.listed(limit=9)} == {order(1), order(2)}
    (known,) = Acceptance(again.record, again.runs).accept([arrival(order(1), "evt_1")])
    assert known.outcome is Outcome.KNOWN
    again.record.store.close()


def test_a_backup_without_its_key_file_is_refused_and_makes_no_new_one(backup: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="restore it from its backup"):
        open_record(backup, tmp_path / "nowhere" / "key")
    assert not (tmp_path / "nowhere" / "key").exists()


def test_a_backup_with_another_key_file_says_so(backup: str, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    other.write_bytes(bytes(32))
    other.chmod(0o600)
    with pytest.raises(ConfigurationError, match="is not the key of this database; use the key file that was created"):
        open_record(backup, other)


def test_machines_that_start_at_the_same_time_do_not_each_make_a_key(empty_url: str, tmp_path: Path) -> None:
    ready = Barrier(4)

    def start(machine: int) -> Record | None:
        ready.wait(timeout=30)
        try:
            return open_record(empty_url, tmp_path / f"machine-{machine}" / "key")
        except ConfigurationError:
            return None

    with ThreadPoolExecutor(4) as machines:
        opened = [record for record in machines.map(start, range(4)) if record is not None]
    assert len(opened) == 1
    opened[0].store.close()
