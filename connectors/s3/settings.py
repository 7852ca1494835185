"""What the configuration says about one bucket."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    model_validator,
)

from orchestrator.capabilities.files import AssetKey
from orchestrator.toolkit.settings import NetworkSettings

_ENDPOINT = r"^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^\s?#]*)?$"
_LONGEST_KEY = 1024
"""Bytes (docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html)."""


def _names_one_object(key: str) -> str:
    if not key.isprintable() or key.startswith("/") or {".", ".."} & set(key.split("/")):
        raise ValueError("an object's key is printable, begins with no slash, and has no part '.' or '..'")
    if not 0 < len(key.encode()) <= _LONGEST_KEY:
        raise ValueError(f"an object's key has 1 to {_LONGEST_KEY} bytes")
    return key


class S3Object(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """One object of the bucket, below ``prefix``."""

    key: Annotated[str, AfterValidator(_names_one_object)]
    """Whatever it is called: this is written by an operator, so that it may hold any letter."""
    version: Annotated[str, StringConstraints(pattern=r"^[!-~]+$", max_length=1024)] | None = None
    """Pins the object to one version; without one, the newest is meant."""


def _key_alone(value: Any) -> Any:
    return {"key": value} if isinstance(value, str) else value


class S3Role(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """A role that the credential takes on (docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html)."""

    arn: Annotated[str, StringConstraints(pattern=r"^arn:[a-z-]+:iam::[^:\s]*:role/\S+$", min_length=20)]
    external_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+=,.@:/-]+$", min_length=2)] | None = None
    """What the role's trust policy asks for, if its account is another company's."""
    hours: Annotated[float, Field(ge=0.25, le=12)] = 1
    """How long a session lasts: no longer than the role allows, and 1 if a role takes on this one."""


class S3Settings(NetworkSettings, frozen=True):
    """Which bucket, where, as whom, and which of its objects."""

    bucket: Annotated[str, Field(min_length=3)]
    region: Annotated[str, Field(min_length=1)] = "us-east-1"
    endpoint_url: Annotated[str, StringConstraints(pattern=_ENDPOINT)] | None = None
    """Scheme and host of a store other than Amazon's, as customers reach it: it stands in their links."""
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    prefix: Annotated[str, StringConstraints(pattern=r"^([^/].*/)?$")] = ""
    """Folder that all assets lie in; ends with a slash."""
    objects: Annotated[dict[AssetKey, Annotated[S3Object, BeforeValidator(_key_alone)]], Field(min_length=1)] | None = (
        None
    )
    """Which object each asset is. What is not listed is refused; without a list, an asset's key is its object's."""
    access_key_id: SecretStr | None = None
    """Without a key, the environment, the shared files or the machine's role are asked, as boto3 does."""
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None
    """Belongs to short-lived keys."""
    session_ends: AwareDatetime | None = None
    """When those keys end, as whoever issued them said ("Expiration"): the links that they sign end with them."""
    role: S3Role | None = None
    """Taken on with the credential; its sessions sign the links."""
    least_link_minutes: Annotated[float, Field(ge=1, le=660)] = 10
    """A session that leaves a link less than this is renewed first."""
    known_asset: AssetKey | None = None
    """A file that is always there; ``check`` downloads its first byte."""

    @property
    def least_link(self) -> timedelta:
        """How long a link lives at least, unless a shorter one is asked for."""
        return timedelta(minutes=self.least_link_minutes)

    @model_validator(mode="after")
    def _has_one_whole_credential(self) -> Self:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key belong together: give both, or neither")
        if (self.session_token is None) != (self.session_ends is None):
            raise ValueError("session_token and session_ends belong together: give both, or neither")
        if self.session_token is not None and self.access_key_id is None:
            raise ValueError("session_token belongs to access_key_id and secret_access_key: give them, too")
        if self.role is not None and timedelta(hours=self.role.hours) <= self.least_link:
            raise ValueError("least_link_minutes must be shorter than a session of the role: correct role.hours")
        return self

    @model_validator(mode="after")
    def _lists_the_known_asset(self) -> Self:
        if self.objects is not None and self.known_asset is not None and self.known_asset not in self.objects:
            raise ValueError("known_asset does not stand in objects: list it there, or name one that does")
        return self
