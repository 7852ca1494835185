"""What the configuration says about one Gmail account."""

from __future__ import annotations

from email.headerregistry import Address
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, FilePath, SecretStr, StringConstraints, field_validator, model_validator

from orchestrator.capabilities import EmailAddress
from orchestrator.toolkit.settings import NetworkSettings, Seconds
from orchestrator_connectors.mail.settings import DOMAIN, is_local, mailbox

SEND = "https://www.googleapis.com/auth/gmail.send"
READ = "https://www.googleapis.com/auth/gmail.readonly"
SCOPES = (READ, SEND)
"""The least that reads mail byte for byte, sends, and finds what was sent
(developers.google.com/workspace/gmail/api/auth/scopes)."""
WIDER = frozenset({"https://mail.google.com/", "https://www.googleapis.com/auth/gmail.modify"})
"""Each of these allows both as well."""

_URL = r"^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^\s?#]*)?$"
Url = Annotated[str, StringConstraints(pattern=_URL)]


class AppSettings(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """An installed app ("Desktop app"), which a person grants access: ``orchestrator connections authorize``."""

    client_id: Annotated[str, Field(min_length=1)]
    client_secret: SecretStr
    """Google gives one to installed apps too, though it cannot stay secret in them (RFC 8252 section 8.5)."""
    token_file: Path
    """Where the granted access is stored, readable by its owner alone."""


class ServiceAccountSettings(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """A service account to which the domain's administrator delegated the use of mailboxes."""

    key_file: FilePath
    """Its key, as JSON."""
    user: str = ""
    """Whose mailbox it uses; by default that of ``address``."""

    @field_validator("user")
    @classmethod
    def _one_mailbox(cls, text: str) -> str:
        return text and mailbox(text).addr_spec


class GmailSettings(NetworkSettings, frozen=True):
    """One account, and one of two credentials to use it."""

    address: str
    """What stands in From, for example ``support@shop.example`` or ``Our Shop <support@shop.example>``."""
    app: AppSettings | None = None
    service_account: ServiceAccountSettings | None = None
    notices_to: EmailAddress | None = None
    """Who is told what stopped, if this account answers ``notifier``."""
    endpoint_url: Url = "https://gmail.googleapis.com"
    auth_url: Url = "https://accounts.google.com/o/oauth2/v2/auth"
    token_url: Url = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
    timeout_seconds: Seconds = 30
    """Total time for one operation, with everything that it asks Gmail for."""
    visibility_delay_seconds: float = Field(default=90, ge=0)
    """How long Gmail may take until its search finds a sent mail."""
    max_size_bytes: int = Field(default=25 * 1024 * 1024, ge=1024)
    """Of a larger mail only the headers are read."""
    message_id_domain: str = ""
    """The right side of our Message-IDs; by default the domain of ``address``."""

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

    @field_validator("endpoint_url", "auth_url", "token_url")
    @classmethod
    def _keep_secrets(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme == "http" and not is_local(parts.hostname or ""):
            raise ValueError("the credential would travel unprotected: write https://")
        return url

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if (self.app is None) == (self.service_account is None):
            raise ValueError("write either the section app (a person grants access) or service_account, not both")
        return self

    @property
    def place(self) -> str:
        """The system as messages name it."""
        return f"Gmail at {self.endpoint_url.partition('://')[2].rstrip('/')}"

    @property
    def tokeninfo_url(self) -> str:
        """Where Google tells what a token allows, beside where it gives them (OAuth 2.0 API, ``tokeninfo``)."""
        return f"{self.token_url.rpartition('/')[0]}/tokeninfo"

    @property
    def sender(self) -> Address:
        """The address and display name in From."""
        return mailbox(self.address)

    @property
    def id_domain(self) -> str:
        """The right side of our Message-IDs."""
        return self.message_id_domain or self.sender.domain
