"""Private values at rest: AES-256-GCM under one key a person, each wrapped by a key outside the database."""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from collections import OrderedDict
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from threading import Lock

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, bindparam, select

from orchestrator.errors import ConfigurationError, RecordError
from orchestrator.private_files import FILE_MODE, private_folder
from orchestrator.record.clock import stamp
from orchestrator.record.compiled import Compiled
from orchestrator.record.sql import insert_if_new
from orchestrator.record.tables import key_mark, subject_key

KEY_BYTES = 32
NONCE_BYTES = 12
RECENT_KEYS = 256
MARK = "orchestrator/key/v1"
_FIND = Compiled(select(subject_key.c.subject_ref).where(subject_key.c.lookup == bindparam("address")))
_LOAD = Compiled(select(subject_key).where(subject_key.c.subject_ref == bindparam("subject")))


def load_key(path: Path) -> bytes:
    """Read the key file, or create it on first start with mode 0600.

    Raises:
        ConfigurationError: The file is no key, or others than its owner may read it.
    """
    try:
        private_folder(path.parent)
        if not path.exists():
            _create_key(path)
        return _read_key(path)
    except OSError as exc:
        raise ConfigurationError(
            f"[store] key_file: {path} cannot be used ({type(exc).__name__}); name a place that this user may write to"
        ) from exc


def _create_key(path: Path) -> None:
    """Make the key file whole or not at all, once, however many processes start at the same time."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):  # another process was first: its key counts
        os.link(draft, path)
    draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)  # otherwise a power cut may leave a database without its key
    os.close(folder)


def _read_key(path: Path) -> bytes:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigurationError(f"[store] key_file: others may read {path}; run: chmod 600 {path}")
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ConfigurationError(
            f"[store] key_file: {path} holds {len(key)} bytes where a key has {KEY_BYTES}; "
            "restore it from its backup: without it no private value of the record can be read"
        )
    return key


class Vault:
    """Encrypts and decrypts private values; knows persons only by a random reference.

    Args:
        key: The key-encryption key, ``KEY_BYTES`` long.
    """

    def __init__(self, key: bytes) -> None:
        self._wrap = AESGCM(key)
        self._pepper = hmac.digest(key, b"orchestrator/lookup/v1", "sha256")
        self._recent: OrderedDict[str, AESGCM] = OrderedDict()
        self._guard = Lock()

    def mark(self, tx: Connection) -> None:
        """Mark the database as one of this key's, unless it is marked already."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        row = {"name": MARK, "nonce": nonce, "ciphertext": self._wrap.encrypt(nonce, b"", MARK.encode())}
        insert_if_new(tx, key_mark, row, unique=["name"])

    def fits(self, tx: Connection) -> bool | None:
        """Tell whether this key is the one of the database; None if that is not marked yet."""
        row = tx.execute(select(key_mark).where(key_mark.c.name == MARK)).one_or_none()
        if row is None:
            return None
        try:
            self._wrap.decrypt(row.nonce, row.ciphertext, MARK.encode())
        except InvalidTag:
            return False
        return True

    def lookup(self, address: str) -> str:
        """Return the keyed hash under which an address, or any private key, can be found again."""
        return hmac.digest(self._pepper, address.strip().casefold().encode(), "sha256").hex()

    def fingerprint(self, *parts: bytes) -> str:
        """Return a keyed hash of bytes, such as a raw mail, that says nothing without the key file."""
        digest = hmac.new(self._pepper, digestmod=sha256)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.hexdigest()

    def subject(self, tx: Connection, address: str | None, now: datetime) -> str:
        """Find the person with this address, or note a new one; without an address, always a new one."""
        if not address:
            return self._new_subject(tx, None, now)
        known = self.find(tx, address)
        # Another transaction may note them between the look and ours: then theirs counts.
        return known or self._new_subject(tx, self.lookup(address), now) or str(self.find(tx, address))

    def _new_subject(self, tx: Connection, lookup: str | None, now: datetime) -> str:
        """Note a new person; return nothing if one with the same address is there."""
        subject_ref = f"s-{secrets.token_hex(12)}"
        nonce = secrets.token_bytes(NONCE_BYTES)
        key = AESGCM.generate_key(bit_length=256)
        wrapped = self._wrap.encrypt(nonce, key, subject_ref.encode())
        row = {"lookup": lookup, "nonce": nonce, "wrapped_key": wrapped, "created_at": stamp(now)}
        if not insert_if_new(tx, subject_key, {"subject_ref": subject_ref, **row}, unique=["lookup"]):
            return ""
        self._remember(subject_ref, AESGCM(key))
        return subject_ref

    def find(self, tx: Connection, address: str) -> str | None:
        """Return the reference of the person with this address, if the record knows one."""
        row = _FIND.row(tx, {"address": self.lookup(address)})
        return None if row is None else str(row.subject_ref)

    def encrypt(self, tx: Connection, subject_ref: str, plain: bytes, *, bound_to: str) -> tuple[bytes, bytes]:
        """Encrypt for one person; ``bound_to`` names the only place where the ciphertext is valid.

        Returns:
            The nonce and the ciphertext.
        """
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce, self._key(tx, subject_ref).encrypt(nonce, plain, bound_to.encode())

    def decrypt(self, tx: Connection, subject_ref: str, nonce: bytes, ciphertext: bytes, *, bound_to: str) -> bytes:
        """Decrypt what ``encrypt`` made.

        Raises:
            RecordError: The key is gone (the person was erased), is another one, or the bytes were changed.
        """
        try:
            return self._key(tx, subject_ref).decrypt(nonce, ciphertext, bound_to.encode())
        except InvalidTag as exc:
            raise RecordError(
                f"a private value at {bound_to} does not decrypt: it was changed, or the key file is not the one "
                "that it was written with"
            ) from exc

    def _key(self, tx: Connection, subject_ref: str) -> AESGCM:
        with self._guard:
            key = self._recent.get(subject_ref)
        if key is None:
            key = self._load(tx, subject_ref)
        self._remember(subject_ref, key)
        return key

    def _remember(self, subject_ref: str, key: AESGCM) -> None:
        with self._guard:
            self._recent[subject_ref] = key
            self._recent.move_to_end(subject_ref)
            if len(self._recent) > RECENT_KEYS:
                self._recent.popitem(last=False)

    def _load(self, tx: Connection, subject_ref: str) -> AESGCM:
        row = _LOAD.row(tx, {"subject": subject_ref})
        if row is None:
            raise RecordError(f"the key of person {subject_ref} is gone: their private values cannot be read any more")
        try:
            return AESGCM(self._wrap.decrypt(row.nonce, row.wrapped_key, subject_ref.encode()))
        except InvalidTag as exc:
            raise RecordError(
                "[store] key_file: it does not open this database's keys; use the key file that was created with it"
            ) from exc
