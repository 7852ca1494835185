from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from orchestrator.errors import ConfigurationError, RecordError
from orchestrator.record import migrations
from orchestrator.record.store import Store
from orchestrator.record.tables import metadata

VERSIONS = Path(migrations.__file__).parent / "versions"
GUARDS = {
    "sqlite": {"audit_event_no_update", "audit_event_no_delete", "audit_event_no_replace"},
    "postgresql": {"audit_event_append_only", "audit_event_no_truncate"},
}


@pytest.fixture
def open_store(empty_url: str) -> Callable[[], Store]:
    return lambda: Store(empty_url)


def test_all_migrations_applied_give_the_schema_of_the_tables(open_store: Callable[[], Store]) -> None:
    store = open_store()
    with store.read() as tx:
        context = MigrationContext.configure(tx, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    store.close()


def test_all_migrations_applied_give_the_defaults_of_the_tables(open_store: Callable[[], Store]) -> None:
    store = open_store()
    with store.write() as tx:
        migrated = defaults(tx)
        metadata.drop_all(tx)
        metadata.create_all(tx)
        assert defaults(tx) == migrated
    store.close()


def defaults(tx: Connection) -> set[tuple[str, str, object]]:
    inspector = inspect(tx)
    columns = [(table.name, column) for table in metadata.sorted_tables for column in inspector.get_columns(table.name)]
    return {(table, column["name"], column["default"]) for table, column in columns}


def test_the_guards_of_the_trail_are_there(open_store: Callable[[], Store]) -> None:
    store = open_store()
    names = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
        "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
    }[store.dialect]
    with store.read() as tx:
        assert set(tx.execute(text(names)).scalars()) == GUARDS[store.dialect]
    store.close()


def test_head_is_the_newest_version() -> None:
    config = Config()
    config.set_main_option("script_location", str(VERSIONS.parent))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [migrations.HEAD]
    newest = max(path.name for path in VERSIONS.glob("[0-9]*.py"))
    assert newest.startswith(f"{migrations.HEAD}_")


def test_opening_twice_changes_nothing(open_store: Callable[[], Store]) -> None:
    first = open_store()
    with first.write() as tx:
        tx.execute(text("INSERT INTO intake_cursor VALUES ('a', 'b', 'c', 'd')"))
    second = open_store()
    with second.read() as tx:
        assert tx.execute(text("SELECT source FROM intake_cursor")).scalars().all() == ["a"]
        assert tx.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [migrations.HEAD]
    first.close()
    second.close()


def test_a_database_of_a_newer_version_is_refused_and_left_alone(open_store: Callable[[], Store]) -> None:
    store = open_store()
    with store.write() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(RecordError, match=r"\[store\] url: the database has schema 9999.*install the newer version"):
        open_store()
    with store.read() as tx:
        assert tx.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == ["9999"]
    store.close()


def test_a_migration_that_is_interrupted_leaves_nothing_behind(open_store: Callable[[], Store]) -> None:
    """A table in the way stops the migration half-way."""
    store = open_store()
    with store.write() as tx:
        for table in reversed(metadata.sorted_tables):
            tx.execute(text(f"DROP TABLE {table.name}"))
        tx.execute(text("DROP TABLE alembic_version"))
        if store.dialect == "postgresql":
            tx.execute(text("DROP FUNCTION audit_event_append_only"))
        tx.execute(text("CREATE TABLE question (in_the_way INTEGER)"))
    with pytest.raises(RecordError, match="does not open"):
        open_store()
    with store.read() as tx:
        assert inspect(tx).get_table_names() == ["question"]
    store.close()


def test_processes_that_open_a_new_database_at_once_all_succeed(empty_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(3)
    processes = [context.Process(target=open_at_once, args=(empty_url, ready)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [0, 0, 0]


def open_at_once(url: str, ready: multiprocessing.synchronize.Barrier) -> None:
    ready.wait(timeout=60)
    Store(url).close()


@pytest.mark.parametrize("url", ["", "nonsense", "nosuchbase:///x", "postgresql+nosuchdriver://x/y", "mysql://x/y"])
def test_a_url_that_names_no_database_is_refused_with_the_remedy(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"write sqlite:///data/orchestrator.db or postgresql\+psycopg://"):
        Store(url)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(RecordError, match="does not open"):
        Store(f"sqlite:///{tmp_path}/x.db")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((RecordError, ConfigurationError), match=r"\[store\] url"):
        Store(f"sqlite:///{tmp_path}/file/x.db")


def test_a_folder_in_the_databases_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").mkdir()
    with pytest.raises(RecordError, match="does not open"):
        Store(f"sqlite:///{tmp_path}/x.db")


@pytest.mark.postgres
def test_a_server_that_is_not_there_is_refused() -> None:
    with pytest.raises(RecordError, match="does not open"):
        Store("postgresql+psycopg://tester@127.0.0.1:1/none")
