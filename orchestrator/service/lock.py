"""One ``orchestrator up`` at a time has a data folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.errors import ConfigurationError
from orchestrator.private_files import FILE_MODE, private_folder

LOCK = "up.lock"


@contextmanager
def locked(data: Path) -> Iterator[int]:
    """Have a data folder for oneself.

    The lock is the kernel's (``flock``): it needs no tidying up after a crash. Children that inherit its descriptor
    keep it until the last of them has ended, so that no second ``up`` comes between.

    Args:
        data: The folder; made if it is not there.

    Returns:
        The descriptor of the lock.

    Raises:
        ConfigurationError: Somebody else has it, or it cannot be written.
    """
    descriptor = _opened(data)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(_told(data, os.pread(descriptor, 20, 0).decode(errors="replace"))) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _opened(data: Path) -> int:
    try:
        private_folder(data)
        return os.open(data / LOCK, os.O_RDWR | os.O_CREAT, FILE_MODE)
    except OSError as exc:
        raise ConfigurationError(
            f"[service] data: {data} cannot be written ({exc.strerror}); make the orchestrator's user its owner"
        ) from exc


def _told(data: Path, owner: str) -> str:
    who = f"process {owner}" if owner.isdecimal() else "another process"
    try:
        os.kill(int(owner), 0)
    except (ValueError, ProcessLookupError):
        return (
            f"{data}: an `orchestrator up` was killed, and what it had started is still stopping; try again in a moment"
        )
    except PermissionError:
        pass
    return (
        f"{data}: another `orchestrator up` ({who}) is at work here; stop it (kill {owner}), or give this one a data "
        "folder and ports of its own ([service] data, [gateway] port, [prefect] api_url)"
    )
