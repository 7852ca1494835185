"""Bring a database to the schema of this version."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from orchestrator.errors import RecordError

HEAD = "0005"
"""The newest revision in ``versions``; a test holds it against the directory."""
MIGRATION_LOCK = 0x6F726368
"""PostgreSQL advisory lock: an arbitrary number that no other program is likely to choose."""


def bring_up_to_date(tx: Connection) -> None:
    """Apply the migrations that this database has not seen.

    Raises:
        RecordError: The database was written by a newer version of this program.
    """
    if _revision(tx) == HEAD:
        return
    _queue(tx)
    revision = _revision(tx)
    if revision == HEAD:
        return
    if revision is not None and revision > HEAD:
        raise RecordError(
            f"[store] url: the database has schema {revision}, this program knows {HEAD}; "
            "install the newer version that wrote it"
        )
    _upgrade(tx)


def _queue(tx: Connection) -> None:
    """Let one process at a time migrate; on SQLite the write transaction itself keeps the others out."""
    if tx.dialect.name == "postgresql":
        tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})


def _revision(tx: Connection) -> str | None:
    if not inspect(tx).has_table("alembic_version"):
        return None
    return tx.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _upgrade(tx: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = tx
    command.upgrade(config, HEAD)
