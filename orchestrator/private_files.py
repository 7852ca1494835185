"""Files and folders that are for this user alone, from their first moment, whatever the umask is."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

FILE_MODE = 0o600
FOLDER_MODE = 0o700
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def private_folder(path: Path) -> None:
    """Make a folder, and those above it, unless they are there; one that is there stays as it is."""
    if not path.is_dir():
        private_folder(path.parent)
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)


def private_file(path: Path) -> None:
    """Make an empty file; one that is there and ours is closed to others.

    It is not opened if it is there: to close it would undo the locks that this process has on it (POSIX, ``fcntl``).

    Raises:
        OSError: It cannot be made.
    """
    try:
        path.touch(mode=FILE_MODE, exist_ok=False)
    except FileExistsError:
        close_to_others(path)


def close_to_others(path: Path) -> None:
    """Take a file of ours away from others, if it is there."""
    with suppress(FileNotFoundError):
        found = path.stat()
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & OTHERS:
            path.chmod(FILE_MODE)


def create_privately() -> None:
    """Create every file and folder of this process, and of those that it starts, for this user alone."""
    os.umask(OTHERS)
