"""What tests of the record share: a clock that stands still, and a fresh database of either kind."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import distributions
from pathlib import Path

import hypothesis
import pytest

from orchestrator.kernel.consistency import audit
from orchestrator.record.record import Record, open_record
from orchestrator.record.store import Store
from tests.support.clock import HandClock
from tests.support.kernel_bench import Bench, FakeSystem
from tests.support.paths import ROOT
from tests.support.postgres import BLANK, PostgresServer

os.umask(0o077)  # configurations that tests write may hold secrets
os.environ.pop("COLUMNS", None)  # tables are as wide as the terminal, and a test has none
hypothesis.settings.register_profile("commit", deadline=None, database=None, print_blob=True)
hypothesis.settings.load_profile("commit")


def pytest_configure() -> None:
    """Refuse an environment whose entry points are those of another commit: what is found would be half of each.

    Raises:
        UsageError: It is; the message says how to renew it.
    """
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["orchestrator.connectors"]
    for found in distributions(name="process-orchestrator"):
        if {each.name: each.value for each in found.entry_points.select(group="orchestrator.connectors")} != wanted:
            raise pytest.UsageError(
                f"{found.locate_file('')} holds an older installation than pyproject.toml: rm -rf *.egg-info, then "
                "python -m pip install --no-deps --no-build-isolation --editable . (or make lint)"
            )


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server with the database ``BLANK``."""
    with PostgresServer() as server:
        blank = server.new_database(BLANK)
        Store(blank).close()
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database that nobody has opened yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/record.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.new_database()
    yield url
    server.drop_database(url)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def record_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database for a record, on PostgreSQL with its schema made."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/record.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.new_database(template=BLANK)
    yield url
    server.drop_database(url)


@pytest.fixture
def reopen(record_url: str, tmp_path: Path, clock: HandClock) -> Iterator[Callable[[], Record]]:
    """Open the same record again, as another process would."""
    opened: list[Record] = []

    def reopen() -> Record:
        opened.append(open_record(record_url, tmp_path / "keys" / "key", clock))
        return opened[-1]

    yield reopen
    for each in opened:
        each.store.close()


@pytest.fixture
def record(reopen: Callable[[], Record]) -> Record:
    """An empty record on SQLite, and on PostgreSQL."""
    return reopen()


@pytest.fixture
def system() -> FakeSystem:
    """A system outside that does as it is told."""
    return FakeSystem()


@pytest.fixture
def bench(record: Record, system: FakeSystem) -> Iterator[Bench]:
    """A kernel with that system; in the end the trail must verify, and everything else must fit it."""
    yield Bench(record, system)
    assert audit(record).is_sound
