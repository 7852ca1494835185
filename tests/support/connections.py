"""Connections that tests configure: a shelf of files, and a post office that is closed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, field_validator

from orchestrator.bindings import Connections, connect
from orchestrator.capabilities import Mailbox, Mailer, MailPage, OutgoingMail, Receipt
from orchestrator.errors import Unavailable
from orchestrator.plugins import DoubtClass, Settlement
from orchestrator.plugins.host import PluginHost
from tests.support.configurations import load
from tests.support.plugins import SHELF, offering


class PostSettings(BaseModel, frozen=True, extra="forbid"):
    password: SecretStr
    recipients: tuple[str, ...] = ()
    port: int = 25

    @field_validator("password")
    @classmethod
    def _long(cls, password: SecretStr) -> SecretStr:
        if password.get_secret_value() == "crash":
            raise RuntimeError("crash")
        if len(password.get_secret_value()) < 10:
            raise ValueError(f"the password {password.get_secret_value()} is short: write ten characters")
        return password


class Post:
    def __init__(self, settings: PostSettings) -> None:
        self.settings = settings
        self.settlements = {"send": Settlement(doubt=DoubtClass.NONE)}

    def send(self, mail: OutgoingMail) -> Receipt:
        return Receipt()

    def position(self) -> str:
        return ""

    def new_mail(self, cursor: str | None, *, limit: int) -> MailPage:
        return MailPage(mails=(), cursor="")

    def check(self) -> str:
        raise Unavailable("the post is closed: come again")


POST = replace(SHELF, name="post", provides=(Mailer, Mailbox), settings=PostSettings, build=Post)
WHOLE = """
connections.shelf = {connector = "shelf"}
connections.attic = {connector = "shelf", folder = "/attic"}
connections.post = {connector = "post", password = "long enough"}
bindings.file_links = "shelf"
bindings.mailer = "post"
mailboxes.support = {connection = "post", process = "support-inbox"}
"""


def connected(folder: Path, text: str = WHOLE, *connectors: Any, **variables: str) -> Connections:
    """Connect what a configuration says, with more connectors if need be."""
    return connect(load(folder, text, **variables), PluginHost(extra={"acme": offering(SHELF, POST, *connectors)}))
