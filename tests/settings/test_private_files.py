"""What this program writes is for its user alone, whatever the umask is and whoever makes the folder first."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.private_files import close_to_others, private_file, private_folder
from orchestrator.record.record import open_record
from orchestrator.service.lock import locked
from tests.support.configurations import FLOWS

CONFIG = f"""{FLOWS}
store = {{url = "sqlite:///data/deep/r.db", key_file = "data/keys/kek"}}
service.data = "data"
prefect.api_url = "http://127.0.0.1:9/api"
"""
COMMANDS = [["check"], ["run", "lost-download", "--email", "anna@example.com"]]


@pytest.fixture(autouse=True)
def careless_umask() -> Iterator[None]:
    former = os.umask(0)
    yield
    os.umask(former)


def open_to_others(folder: Path) -> list[str]:
    """Return what others than the owner may use, the folder itself included."""
    found = [folder, *folder.rglob("*")]
    return sorted(str(path) for path in found if stat.S_IMODE(path.lstat().st_mode) & 0o077)


@pytest.mark.parametrize("command", COMMANDS, ids=["check", "run"])
def test_whichever_command_comes_first_makes_everything_private(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "o.toml").write_text(CONFIG)
    arguments = [sys.executable, "-m", "orchestrator", "--config", "o.toml", *command]
    subprocess.run(arguments, cwd=tmp_path, capture_output=True, check=False, umask=0)
    assert (tmp_path / "data" / "deep" / "r.db").exists()
    assert open_to_others(tmp_path / "data") == []


def test_a_record_is_private_without_any_command(tmp_path: Path) -> None:
    data = tmp_path / "data"
    record = open_record(f"sqlite:///{data}/deep/r.db", data / "keys" / "kek")
    record.store.wakeup.wait(0)
    names = {path.suffix for path in (data / "deep").iterdir()}
    assert {".db", ".db-wal", ".db-shm", ".lock", ".turn"} <= names
    assert len(list((data / "deep").glob("r.db.wake-*"))) == 1
    assert open_to_others(data) == []
    record.store.close()


def test_a_database_that_was_open_to_others_is_closed_in_a_folder_that_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    sqlite3.connect(tmp_path / "r.db").close()
    (tmp_path / "r.db.lock").touch()
    assert open_to_others(tmp_path) != []
    record = open_record(f"sqlite:///{tmp_path}/r.db", tmp_path / "kek")
    assert open_to_others(tmp_path) == [str(tmp_path)]
    record.store.close()


BEGIN = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"


def test_a_database_that_is_there_keeps_the_locks_that_this_process_has_on_it(tmp_path: Path) -> None:
    database = tmp_path / "r.db"
    private_file(database)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        private_file(database)
        other = subprocess.run([sys.executable, "-c", BEGIN, str(database)], capture_output=True, check=False)
    assert b"database is locked" in other.stderr


def test_the_folder_of_the_service_is_private_with_all_folders_above_that_it_needs(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "data"):
        assert open_to_others(tmp_path / "a") == []


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir(mode=0o755)
    close_to_others(tmp_path / "folder")
    close_to_others(tmp_path / "nothing")
    private_folder(tmp_path / "folder")
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o755
