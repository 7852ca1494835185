"""The settings that connections have in common; inherit from them (with ``frozen=True``)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, Field, FilePath, StringConstraints

BaseUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s?#/]+(/[^\s?#]*)?$", strip_whitespace=True)]
Seconds = Annotated[float, Field(gt=0, le=600)]


class TimeSettings(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """How long a system may take."""

    timeout_seconds: Seconds = 10
    """Total time for one operation."""

    @property
    def timeout(self) -> timedelta:
        """Total time for one operation."""
        return timedelta(seconds=self.timeout_seconds)


class TrustSettings(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """Whose certificates are trusted."""

    ca_file: FilePath | None = None
    """Certificates (PEM) to trust instead of the system's."""


class NetworkSettings(TimeSettings, TrustSettings, frozen=True):
    """How a system is reached over the network."""
