"""A PostgreSQL server of the tests' own, on a free port of 127.0.0.1."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql

TESTED_MAJOR = "15"
_BINARIES = Path("/usr/lib/postgresql")
_UNPRIVILEGED = ("postgres", "nobody")
_SECONDS = 60

BLANK = "blank"
"""The PostgreSQL database whose schema is up to date and which is otherwise empty."""


class PostgresServer:
    """A server that is made when it is entered, and is gone when it is left.

    Args:
        durable: Whether commits are flushed to the disk, as in production; without it tests are faster.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._durable = durable
        self.binaries = _find_binaries()
        self._user = _server_user()
        self._made = 0
        self.port = free_port()

    def __enter__(self) -> Self:
        # Sockets have short paths: the folder lies directly under the system's temporary folder.
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        if self._user is not None:
            os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
        self._run("initdb", "-D", str(self._data), "-U", "tester", "-A", "trust", "--no-sync", "-E", "UTF8")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.crash()
        finally:
            shutil.rmtree(self._folder)

    def start(self) -> None:
        """Start it; return when it answers."""
        flush = "on" if self._durable else "off"
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync={flush}"
        options += f" -c synchronous_commit=on -c full_page_writes={flush} -c max_connections=50"
        self._control("start", "-l", str(self._folder / "log"), "-o", options)

    def crash(self) -> None:
        """Stop it as a crash would: no shutdown checkpoint, recovery at the next start."""
        self._control("stop", "-m", "immediate")

    def new_database(self, name: str | None = None, *, template: str = "template1") -> str:
        """Make a database and return its URL."""
        self._made += 1
        name = name or f"d{self._made}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            connection.execute(statement)
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database that ``new_database`` made."""
        name = url.rpartition("/")[2]
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def demand_password(self, role: str) -> None:
        """Let a role in with its password alone; others need none."""
        rules = self._data / "pg_hba.conf"
        rules.write_text(f"host all {role} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        self._control("reload")

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://tester@127.0.0.1:{self.port}/{database}"

    @property
    def _conninfo(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=tester dbname=postgres"

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _control(self, action: str, *options: str) -> None:
        self._run("pg_ctl", action, "-D", str(self._data), "-w", "-t", str(_SECONDS), *options)

    def _run(self, program: str, *arguments: str) -> None:
        as_whom: dict[str, Any] = {}
        if self._user is not None:
            as_whom = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        output = self._folder / "output"  # a pipe would stay open for as long as the server runs
        with output.open("w") as file:
            done = subprocess.run(
                [self.binaries / program, *arguments],
                cwd=self._folder,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=2 * _SECONDS,
                **as_whom,
            )
        if done.returncode != 0:
            raise RuntimeError(f"{program} {arguments[0]} failed: {output.read_text()}")


def _find_binaries() -> Path:
    versions = sorted(_BINARIES.glob("*/bin/initdb"), key=lambda path: path.parts[-3] == TESTED_MAJOR)
    if versions:
        return versions[-1].parent
    found = shutil.which("initdb")
    if found is None:
        raise RuntimeError(
            f"these tests need the PostgreSQL server binaries: there is no {_BINARIES}/*/bin/initdb and no initdb "
            "on PATH; install them (Debian: apt-get install postgresql)"
        )
    return Path(found).resolve().parent


def _server_user() -> pwd.struct_passwd | None:
    """Return the user that the server runs as if it may not run as ours: it refuses root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next(known[name] for name in _UNPRIVILEGED if name in known)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
