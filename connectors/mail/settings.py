"""What the configuration says about one mail account."""

from __future__ import annotations

import re
from email.headerregistry import Address
from email.policy import SMTP
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)

from orchestrator.capabilities import EmailAddress
from orchestrator.toolkit.settings import BaseUrl, Seconds, TimeSettings, TrustSettings

DOMAIN = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_SPEAKS_TLS_AT_ONCE = {465: 587, 993: 143}
_STARTS_PLAIN = {25: 465, 587: 465, 143: 993}


def _one_line(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("write one line of visible characters")
    return text


def _secret_line(secret: SecretStr) -> SecretStr:
    _one_line(secret.get_secret_value())
    return secret


def _host_name(host: str) -> str:
    if not host or re.search(r"[\s/@]|^[^:]*:[^:]*$", host):
        raise ValueError(
            'write the host\'s name alone, for example "mail.example.com"; the port has a field of its own'
        )
    return host


def is_local(host: str) -> bool:
    """Tell whether nobody else can listen on the way to a host."""
    return host in {"localhost", "::1"} or host.startswith("127.")


Line = Annotated[str, AfterValidator(_one_line)]
SecretLine = Annotated[SecretStr, AfterValidator(_secret_line)]


class ServerSettings(TrustSettings, frozen=True):
    """How one server is reached."""

    host: Annotated[str, AfterValidator(_host_name)]
    port: int = Field(ge=1, le=65535)
    security: Literal["tls", "starttls", "plain"] = "tls"
    """``tls`` from the first byte (RFC 8314), ``starttls`` after a greeting, ``plain`` on this computer."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.security == "starttls" and (other := _SPEAKS_TLS_AT_ONCE.get(self.port)):
            raise ValueError(f'port {self.port} speaks TLS at once: write security = "tls", or port = {other}')
        if self.security == "tls" and (other := _STARTS_PLAIN.get(self.port)):
            raise ValueError(
                f'port {self.port} does not begin with TLS: write security = "starttls", or port = {other}'
            )
        if self.security == "plain" and self.ca_file:
            raise ValueError('ca_file has no meaning with security = "plain": leave one of them out')
        return self

    @property
    def place(self) -> str:
        """The server as messages name it."""
        return f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether nobody else can listen on the way."""
        return is_local(self.host)


class SmtpSettings(ServerSettings, frozen=True):
    """The server that takes mail to send."""

    port: int = Field(default=465, ge=1, le=65535)
    username: Line | None = None
    password: SecretLine | None = None

    @model_validator(mode="after")
    def _log_in_safely(self) -> Self:
        if self.password and self.username is None:
            raise ValueError("username and password belong together: write both, or neither")
        if self.username and self.security == "plain" and not self.is_local:
            raise ValueError('the password would travel unprotected: write security = "tls" or "starttls"')
        return self


class ImapSettings(ServerSettings, frozen=True):
    """The server that holds the mailbox."""

    port: int = Field(default=993, ge=1, le=65535)
    username: Line
    password: SecretLine | None = None
    """Left out if the account has a section ``oauth``."""
    folder: Line = "INBOX"
    """Where new mail arrives."""
    sent_folder: Line | None = None
    """Where the provider itself files what it sends for this account. Only set it if it does (Gmail:
    ``[Gmail]/Sent Mail``): then a mail whose sending was interrupted is looked up there, else a person is asked."""

    @model_validator(mode="after")
    def _read_safely(self) -> Self:
        if self.security == "plain" and not self.is_local:
            raise ValueError('the password would travel unprotected: write security = "tls" or "starttls"')
        if self.folder == self.sent_folder:
            raise ValueError("sent_folder must not be the folder where new mail arrives: we would answer ourselves")
        return self


class OAuthSettings(TrustSettings, frozen=True):
    """How logins get a token instead of a password; ``orchestrator connections authorize`` gets the first one."""

    token_url: BaseUrl
    """For example https://oauth2.googleapis.com/token."""
    auth_url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s#]+$")]
    """Where a person grants access, for example https://accounts.google.com/o/oauth2/v2/auth?access_type=offline."""
    client_id: Line
    client_secret: SecretLine | None = None
    scope: Line
    """What is asked for, for example https://mail.google.com/."""
    token_file: Path
    """Where the tokens are kept, on a disk that all workers of this connection share."""


class MailSettings(TimeSettings, frozen=True):
    """One account: mail out by SMTP, and mail in by IMAP if it is configured."""

    address: str
    """What stands in From, for example ``support@shop.example`` or ``Our Shop <support@shop.example>``."""
    smtp: SmtpSettings
    imap: ImapSettings | None = None
    oauth: OAuthSettings | None = None
    """With it, both servers are logged in to with a token."""
    notices_to: EmailAddress | None = None
    """Who is told what stopped, if this account answers ``notifier``."""
    timeout_seconds: Seconds = 30
    """Total time for one operation, from the connection to the last answer."""
    max_size_bytes: int = Field(default=25 * 1024 * 1024, ge=1024)
    """Of a larger mail only the headers are read."""
    message_id_domain: str = ""
    """The right side of our Message-IDs; by default the domain of ``address``."""
    visibility_delay_seconds: float = Field(default=60, ge=0)
    """How long the provider may take to file a sent mail where it is looked up."""

    @model_validator(mode="after")
    def _prove_each_login(self) -> Self:
        for server, name in ((self.smtp, "smtp"), (self.imap, "imap")):
            if server is None or server.username is None:
                continue
            if (server.password is None) == (self.oauth is None):
                raise ValueError(
                    f"{name}.username needs either {name}.password, or the account's section oauth: write one of them"
                )
        return self

    @field_validator("address")
    @classmethod
    def _one_mailbox(cls, text: str) -> str:
        mailbox(text)
        return text

    @field_validator("message_id_domain")
    @classmethod
    def _domain(cls, domain: str) -> str:
        if domain and not DOMAIN.fullmatch(domain):
            raise ValueError('write a domain name, for example "shop.example"')
        return domain

    @cached_property
    def sender(self) -> Address:
        """The address and display name in From."""
        return mailbox(self.address)

    @property
    def id_domain(self) -> str:
        """The right side of our Message-IDs."""
        return self.message_id_domain or self.sender.domain


def mailbox(text: str) -> Address:
    """Read one address with an optional display name.

    Raises:
        ValueError: It is none, or more than one.
    """
    problem = ValueError('write one address, for example "support@shop.example" or "Our Shop <support@shop.example>"')
    if not text.isprintable():
        raise problem
    header = SMTP.header_factory("From", text)
    addresses: tuple[Address, ...] = header.addresses
    if len(addresses) != 1 or header.defects:
        raise problem
    if not (addresses[0].username.isascii() and DOMAIN.fullmatch(addresses[0].domain)):
        raise problem
    return addresses[0]
