from __future__ import annotations

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import delete, func, select, text, update

from orchestrator.errors import ConfigurationError, RecordError
from orchestrator.record.record import Record
from orchestrator.record.tables import subject_key
from orchestrator.record.vault import KEY_BYTES, RECENT_KEYS, Vault, load_key
from tests.support.clock import HandClock

SECRET = b"what nobody else may read"


def seal(record: Record, place: str = "here", address: str | None = None) -> tuple[str, bytes, bytes]:
    with record.store.write() as tx:
        subject_ref = record.vault.subject(tx, address, record.clock())
        return subject_ref, *record.vault.encrypt(tx, subject_ref, SECRET, bound_to=place)


def unseal(record: Record, subject_ref: str, nonce: bytes, ciphertext: bytes, place: str = "here") -> bytes:
    with record.store.read() as tx:
        return record.vault.decrypt(tx, subject_ref, nonce, ciphertext, bound_to=place)


def test_a_value_comes_back_for_its_person_and_place(record: Record) -> None:
    assert unseal(record, *seal(record)) == SECRET


def test_another_process_with_the_same_key_file_can_read_it(record: Record, reopen: Callable[[], Record]) -> None:
    sealed = seal(record)
    assert unseal(reopen(), *sealed) == SECRET


def test_the_same_value_looks_different_each_time(record: Record) -> None:
    assert len({seal(record)[2] for _ in range(5)}) == 5


def test_a_changed_ciphertext_is_refused(record: Record) -> None:
    subject_ref, nonce, ciphertext = seal(record)
    for place in range(len(ciphertext)):
        changed = bytearray(ciphertext)
        changed[place] ^= 1
        with pytest.raises(RecordError, match="does not decrypt: it was changed"):
            unseal(record, subject_ref, nonce, bytes(changed))


def test_a_ciphertext_is_valid_only_at_its_place(record: Record) -> None:
    with pytest.raises(RecordError, match="at elsewhere does not decrypt"):
        unseal(record, *seal(record, "here"), "elsewhere")


def test_a_ciphertext_is_valid_only_for_its_person(record: Record) -> None:
    other, *_ = seal(record)
    _, nonce, ciphertext = seal(record)
    with pytest.raises(RecordError, match="does not decrypt"):
        unseal(record, other, nonce, ciphertext)


def test_another_key_file_opens_nothing_and_says_so(record: Record) -> None:
    stranger = Vault(bytes(KEY_BYTES))
    subject_ref, nonce, ciphertext = seal(record)
    with record.store.read() as tx, pytest.raises(RecordError, match="use the key file that was created with it"):
        stranger.decrypt(tx, subject_ref, nonce, ciphertext, bound_to="here")


def test_a_wrapped_key_moved_to_another_person_does_not_open(record: Record, reopen: Callable[[], Record]) -> None:
    victim, nonce, ciphertext = seal(record)
    thief, *_ = seal(record)
    with record.store.write() as tx:
        stolen = tx.execute(select(subject_key).where(subject_key.c.subject_ref == victim)).one()
        taken = {"nonce": stolen.nonce, "wrapped_key": stolen.wrapped_key}
        tx.execute(update(subject_key).where(subject_key.c.subject_ref == thief).values(**taken))
    with pytest.raises(RecordError, match="does not open this database's keys"):
        unseal(reopen(), thief, nonce, ciphertext)


def test_without_the_persons_key_nothing_can_be_read(record: Record, reopen: Callable[[], Record]) -> None:
    sealed = seal(record)
    with record.store.write() as tx:
        tx.execute(delete(subject_key))
    with pytest.raises(RecordError, match=f"the key of person {sealed[0]} is gone"):
        unseal(reopen(), *sealed)


def test_more_persons_than_the_vault_remembers_can_be_read(record: Record, clock: HandClock) -> None:
    with record.store.write() as tx:
        people = [record.vault.subject(tx, None, clock()) for _ in range(RECENT_KEYS + 10)]
        sealed = [(ref, *record.vault.encrypt(tx, ref, SECRET, bound_to="here")) for ref in people]
        for ref, nonce, ciphertext in sealed:
            assert record.vault.decrypt(tx, ref, nonce, ciphertext, bound_to="here") == SECRET


def test_a_person_is_found_again_by_address_however_it_is_spelt(record: Record) -> None:
    subject_ref, *_ = seal(record, address="Anna@Example.com")
    with record.store.write() as tx:
        assert record.vault.find(tx, " anna@EXAMPLE.com ") == subject_ref
        assert record.vault.subject(tx, "ANNA@example.com", record.clock()) == subject_ref
        assert record.vault.find(tx, "bob@example.com") is None


def test_two_persons_have_two_references_and_nobody_is_always_somebody_new(record: Record) -> None:
    references = [seal(record, address=address)[0] for address in ("a@x.example", "b@x.example", None, None)]
    assert len(set(references)) == 4


def test_an_address_does_not_stand_in_the_database(record: Record) -> None:
    seal(record, address="anna@example.com")
    with record.store.read() as tx:
        row = tx.execute(select(subject_key)).one()
    assert "anna" not in repr(tuple(row))
    assert row.lookup != Vault(bytes(KEY_BYTES)).lookup("anna@example.com")


def test_many_processes_note_the_same_person_once(record: Record, reopen: Callable[[], Record]) -> None:
    others = [reopen() for _ in range(4)]
    ready = Barrier(4)

    def note(other: Record) -> str:
        ready.wait(timeout=30)
        return seal(other, address="anna@example.com")[0]

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(note, others))) == 1
    with record.store.read() as tx:
        assert tx.execute(select(func.count()).select_from(subject_key)).scalar_one() == 1


def test_a_transaction_that_fails_leaves_no_person_behind(record: Record, clock: HandClock) -> None:
    with suppress(KeyError), record.store.write() as tx:
        record.vault.subject(tx, "anna@example.com", clock())
        raise KeyError
    with record.store.read() as tx:
        assert tx.execute(text("SELECT count(*) FROM subject_key")).scalar_one() == 0


def test_a_fingerprint_depends_on_every_part_and_on_where_parts_end() -> None:
    vault = Vault(bytes(KEY_BYTES))
    cuts = [(b"ab", b"c"), (b"a", b"bc"), (b"abc",), (b"abc", b""), (b"abd",)]
    assert len({vault.fingerprint(*parts) for parts in cuts}) == len(cuts)
    assert vault.fingerprint(b"a") != Vault(b"x" * KEY_BYTES).fingerprint(b"a")


def test_the_key_file_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "key"
    key = load_key(path)
    assert (len(key), load_key(path)) == (KEY_BYTES, key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_key_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    load_key(tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(ConfigurationError, match="run: chmod 600"):
        load_key(tmp_path / "key")


@pytest.mark.parametrize("content", [b"", b"short", bytes(KEY_BYTES + 1)])
def test_a_file_that_is_no_key_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").touch(mode=0o600)
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigurationError, match="restore it from its backup"):
        load_key(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == content


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    ready = Barrier(8)

    def load(place: Path) -> bytes:
        ready.wait(timeout=30)
        return load_key(place)

    with ThreadPoolExecutor(8) as pool:
        for attempt in range(20):
            assert len(set(pool.map(load, [tmp_path / f"key-{attempt}"] * 8))) == 1


def test_a_new_key_is_not_made_for_a_database_that_has_had_one(
    record: Record, reopen: Callable[[], Record], tmp_path: Path
) -> None:
    seal(record)
    (tmp_path / "keys" / "key").rename(tmp_path / "moved")
    with pytest.raises(ConfigurationError, match="restore it from its backup"):
        reopen()
    assert not (tmp_path / "keys" / "key").exists()
