"""The record's parts, held together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from orchestrator.errors import ConfigurationError
from orchestrator.record.clock import Clock, SteadyClock, steady, utc_now
from orchestrator.record.store import NOTHING_HERE, Store
from orchestrator.record.tables import key_mark
from orchestrator.record.trail import Trail
from orchestrator.record.vault import Vault, load_key


@dataclass(frozen=True, kw_only=True)
class Record:
    """Where everything is written down: the store, the vault for private values, the trail, and the clocks."""

    store: Store
    vault: Vault
    trail: Trail
    clock: Clock
    steady: SteadyClock


def open_record(
    url: str,
    key_file: Path,
    clock: Clock = utc_now,
    steady_clock: SteadyClock | None = None,
    *,
    create: bool = True,
) -> Record:
    """Open the record, and create it on first start.

    Args:
        url: The database, as an SQLAlchemy URL.
        key_file: The key-encryption key; created with mode 0600 if it is not there.
        clock: Tells the time.
        steady_clock: Tells how long something takes; without one, the one that belongs to ``clock``.
        create: False for those that only look: then there must be a record already, with its key.

    Raises:
        ConfigurationError: The URL or the key file is not usable, or there is no record to look at.
        RecordError: The database does not open, or was written by a newer version.
    """
    store = Store(url, create=create)
    try:
        _refuse_lost_key(store, key_file)
        if not create:
            _refuse_missing_key(key_file)
        vault = Vault(load_key(key_file))
        _refuse_other_key(store, vault, key_file)
    except ConfigurationError:
        store.close()
        raise
    return Record(store=store, vault=vault, trail=Trail(vault), clock=clock, steady=steady_clock or steady(clock))


def _refuse_lost_key(store: Store, key_file: Path) -> None:
    """A new key would open nothing of what is there, and would find nobody again."""
    with store.read() as tx:
        known = tx.execute(select(key_mark.c.name)).first()
    if known is not None and not key_file.exists():
        raise ConfigurationError(
            f"[store] key_file: there is no {key_file}, but the database holds values that were encrypted with it; "
            "restore it from its backup, or write where it lies"
        )


def _refuse_missing_key(key_file: Path) -> None:
    if not key_file.exists():
        raise ConfigurationError(f"[store] key_file: there is no {key_file}; {NOTHING_HERE}")


def _refuse_other_key(store: Store, vault: Vault, key_file: Path) -> None:
    """Two machines that start at the same time must not each write with a key of their own."""
    with store.read() as tx:
        fits = vault.fits(tx)
    if fits is None:
        with store.write() as tx:
            vault.mark(tx)
        with store.read() as tx:
            fits = vault.fits(tx)
    if not fits:
        raise ConfigurationError(
            f"[store] key_file: {key_file} is not the key of this database; use the key file that was created with "
            "it, the same one on every machine"
        )
