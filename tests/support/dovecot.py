"""A Dovecot server of the tests' own, on a free port of 127.0.0.1: every login name is an account of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

import pytest

PASSWORD = "secret"
_SECONDS = 30
_CONFIG = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
protocols = imap
auth_failure_delay = 0
ssl = no
disable_plaintext_auth = no
mail_location = maildir:{folder}/mail/%u
mail_fsync = never
service imap-login {{
  chroot =
  inet_listener imap {{
    address = 127.0.0.1
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
namespace inbox {{
  inbox = yes
  separator = {separator}
  prefix = {prefix}
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={folder}/home/%u
}}
"""
_PASSWORDS = """
passdb {{
  driver = static
  args = password={password}
}}
"""


class DovecotServer:
    """A server that is made when it is entered, and is gone when it is left.

    Args:
        separator: What stands between a folder's name and that of one below it.
        prefix: What all names but INBOX begin with.
        settings: More of its configuration.
        passwords: How logins are proven; without it, by ``PASSWORD``.
    """

    def __init__(self, *, separator: str = "/", prefix: str = "", settings: str = "", passwords: str = "") -> None:
        program = shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            pytest.skip("needs the IMAP server Dovecot; Debian: apt-get install dovecot-imapd")
        self._program = program
        self._names = {"separator": separator, "prefix": prefix}
        self._settings = settings + (passwords or _PASSWORDS.format(password=PASSWORD))
        self.port = _free_port()
        self._accounts = self._generations = self._mails = 0

    def __enter__(self) -> Self:
        # Sockets have short paths: the folder lies directly under the system's temporary folder.
        self.folder = Path(tempfile.mkdtemp(prefix="dv-"))
        user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        group = Path(f"/proc/{os.getpid()}").group() if os.geteuid() else "nogroup"
        names = self._names | {"folder": self.folder, "user": user.pw_name, "group": group, "port": self.port}
        (self.folder / "conf").write_text(_CONFIG.format(**names) + self._settings)
        as_whom: dict[str, Any] = {}
        if os.geteuid() == 0:
            for path in (self.folder, self.folder / "conf"):
                os.chown(path, user.pw_uid, user.pw_gid)
            as_whom = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        command = [self._program, "-F", "-c", str(self.folder / "conf")]
        nowhere = subprocess.DEVNULL
        self._process = subprocess.Popen(
            command, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True, **as_whom
        )
        self._owner = user
        self._await_answer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)  # it would say farewell to each client
        self._process.wait(_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_account(self) -> str:
        """Return the login name of an account that nobody has used yet."""
        self._accounts += 1
        return f"account{self._accounts}@shop.example"

    def put(self, account: str, *mails: bytes) -> None:
        """Let mails arrive in an account's INBOX, as fast as files can be written."""
        new = self._maildir(account) / "new"
        for raw in mails:
            self._mails += 1
            draft = new.with_name("tmp") / f"{self._mails:08d}.test"
            draft.write_bytes(raw)
            os.chown(draft, self._owner.pw_uid, self._owner.pw_gid)
            draft.rename(new / draft.name)

    def forget_uids(self, account: str) -> None:
        """Number the mails of an account's INBOX again, under another UIDVALIDITY, as a restore from a backup does."""
        folder = self._maildir(account)
        for path in folder.glob("dovecot*"):
            path.unlink()
        self._generations += 1
        uids = folder / "dovecot-uidlist"  # left to itself, it would take the present second
        uids.write_text(f"3 V{2_000_000_000 + self._generations} N1\n")
        os.chown(uids, self._owner.pw_uid, self._owner.pw_gid)

    def drop_conversations(self) -> None:
        """Kill the processes that speak with clients."""
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                words = path.read_text().rpartition(")")[2].split()
                name = path.read_text().partition("(")[2].rpartition(")")[0]
                if name == "imap" and int(words[1]) == self._process.pid:
                    os.kill(int(path.parent.name), signal.SIGKILL)

    def _maildir(self, account: str) -> Path:
        folder = self.folder / "mail" / account
        for part in (folder, *(folder / name for name in ("new", "cur", "tmp"))):
            if not part.exists():
                part.mkdir(parents=True, mode=0o700)
                os.chown(part, self._owner.pw_uid, self._owner.pw_gid)
        os.chown(folder.parent, self._owner.pw_uid, self._owner.pw_gid)
        return folder

    def _await_answer(self) -> None:
        until = monotonic() + _SECONDS
        while monotonic() < until and self._process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                if connection.recv(100).startswith(b"* OK"):
                    return
        log = self.folder / "log"
        raise RuntimeError(f"Dovecot does not answer: {log.read_text() if log.exists() else 'it has no log'}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
