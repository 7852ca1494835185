"""OAuth tokens in a file of their own, refreshed by one process at a time.

Some systems give a new refresh token with every refresh and take the old one away (RFC 6749 6, RFC 9700 4.14.2).
Two processes that refresh at once then lock each other out. So a refresh happens under a lock that all processes
share, only after the file was read again, and what it gave lies on the disk before anybody uses it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, BinaryIO

from filelock import FileLock, Timeout
from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from orchestrator.errors import AccessDenied, Unavailable
from orchestrator.logs import hide
from orchestrator.private_files import FILE_MODE, private_folder

AUTHORIZE = "run: orchestrator connections authorize NAME"
"""What a person does when there is no token, or none that the system still takes."""
BEFORE_ITS_END = timedelta(minutes=2)
"""So long before its end a token is refreshed: a call must not outlive it, and clocks differ."""
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


_Token = Annotated[str, Field(pattern=r"^[ -~]+$", repr=False)]
"""RFC 6749 A.12 and A.17: printable ASCII, so that it fits into a header."""


class Tokens(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """What a system gave to whom it lets in. Neither token shows in ``repr``."""

    access_token: _Token
    refresh_token: _Token
    expires_at: AwareDatetime
    """When the access token ends."""


class _Answer(BaseModel, hide_input_in_errors=True):
    """A successful answer of a token endpoint (RFC 6749 5.1)."""

    access_token: str = Field(min_length=1)
    refresh_token: str | None = None
    expires_in: int = Field(default=3600, ge=0, le=10**9)


def tokens_from(answer: object, *, now: datetime, before: Tokens | None = None) -> Tokens:
    """Read the answer of a token endpoint.

    Args:
        answer: The JSON that it answered (RFC 6749 5.1). Without ``expires_in`` the token is taken for an hour.
        now: When it was asked (UTC); the token's life is counted from there.
        before: The tokens that were refreshed; without a new refresh token, theirs stays.

    Raises:
        Unavailable: It is no such answer, as of a proxy in between; the message does not repeat it.
    """
    try:
        read = _Answer.model_validate(answer)
        return Tokens(
            access_token=read.access_token,
            refresh_token=read.refresh_token or (before.refresh_token if before else ""),
            expires_at=now + timedelta(seconds=read.expires_in),
        )
    except ValidationError as error:
        fault = error.errors(include_input=False, include_context=False)[0]
        missing = fault["loc"][0] if fault["loc"] else "object"
        message = f"the token endpoint's answer has no usable {missing}: {fault['msg']}"
        raise Unavailable(message, no_effect=True) from error


Refresh = Callable[[Tokens], Tokens]
"""Asks the system for new tokens, within a time-out of its own; ``AccessDenied`` if it refuses the old ones."""


@dataclass(frozen=True, kw_only=True)
class TokenStore:
    """The tokens of one connection, in a file that only its owner may read (mode 0600).

    Args:
        path: The file; ``<path>.lock`` lies beside it, so all processes must reach the directory.
        clock: Tells the time, in UTC.
        patience: So long one waits while another refreshes.
    """

    path: Path
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    patience: timedelta = timedelta(seconds=60)

    def read(self) -> Tokens:
        """Read the tokens as they lie there.

        Raises:
            AccessDenied: There are none, others may read them, or they cannot be understood.
        """
        try:
            with self.path.open("rb") as file:
                _refuse_if_others_may_read(file, self.path)
                tokens = Tokens.model_validate_json(file.read())
        except FileNotFoundError as error:
            raise AccessDenied(f"{self.path} is missing, nobody has authorised this connection: {AUTHORIZE}") from error
        except OSError as error:
            raise AccessDenied(f"{self.path} cannot be read ({error.strerror}): make our user its owner") from error
        except ValidationError as error:
            raise AccessDenied(f"{self.path} holds no tokens that can be understood: {AUTHORIZE}") from error
        hide((tokens.access_token, tokens.refresh_token))
        return tokens

    def keep(self, tokens: Tokens) -> None:
        """Keep what an authorisation gave, in place of whatever was there."""
        with self._locked(), self._successor() as write:
            write(tokens)

    def fresh(self, refresh: Refresh) -> Tokens:
        """Return tokens that are still valid for a while, refreshed if need be.

        Raises:
            AccessDenied: There are none, or the system takes them no longer: somebody must authorise again.
            Unavailable: The system cannot be asked, or another process refreshes for too long.
        """
        tokens = self.read()
        if self.clock() + BEFORE_ITS_END < tokens.expires_at:
            return tokens
        return self.renewed(tokens, refresh)

    def renewed(self, refused: Tokens, refresh: Refresh) -> Tokens:
        """Return newer tokens than those that the system has just refused, or that are about to end.

        Whoever comes first refreshes; the others wait, and find what it kept.

        Raises:
            AccessDenied: The system takes the tokens no longer: somebody must authorise again.
            Unavailable: The system cannot be asked, or another process refreshes for too long.
        """
        with self._locked():
            tokens = self.read()
            if tokens != refused:
                return tokens
            # The new file is open before the system is asked: a refused write would lose the only valid token.
            with self._successor() as write:
                try:
                    gained = refresh(tokens)
                except AccessDenied as refusal:
                    return self._kept_meanwhile(tokens, refusal)
                return write(gained)

    def _kept_meanwhile(self, refused: Tokens, refusal: AccessDenied) -> Tokens:
        """Look once more: where a lock does not reach (some network drives), another machine may have been first."""
        tokens = self.read()
        if tokens == refused:
            raise AccessDenied(f"{refusal}; to authorise again, {AUTHORIZE}") from refusal
        return tokens

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._explained():
            private_folder(self.path.parent)
            lock = FileLock(f"{self.path}.lock", self.patience.total_seconds(), mode=FILE_MODE)
            try:
                lock.acquire()
            except Timeout as error:
                held = f"another process has held {self.path}.lock for {self.patience.total_seconds():g} s"
                raise Unavailable(f"{held}: it refreshes, or hangs", no_effect=True) from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _successor(self) -> Iterator[Callable[[Tokens], Tokens]]:
        """Open the file's successor; what is written into it takes the file's place whole, and lies on the disk."""
        path = self.path.with_name(f".{self.path.name}.new")

        def write(tokens: Tokens) -> Tokens:
            with self._explained(), file:
                file.write(tokens.model_dump_json().encode())
                file.flush()
                os.fsync(file.fileno())
                path.replace(self.path)
                _sync_directory(path.parent)
            return tokens

        with self._explained():
            path.unlink(missing_ok=True)  # of a process that was killed: we hold the lock
            file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "wb")
        with file:
            try:
                yield write
            finally:
                path.unlink(missing_ok=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            remedy = f"make our user the owner of its directory, see that the disk has room, and {AUTHORIZE}"
            raise AccessDenied(f"{self.path} cannot be written ({error.strerror}): {remedy}") from error


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_if_others_may_read(file: BinaryIO, path: Path) -> None:
    mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    if mode & _OTHERS:
        raise AccessDenied(f"{path} may be read by others than its owner (mode {mode:03o}): run chmod 600 {path}")
