"""Files that customers download."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal, Protocol

from pydantic import AfterValidator, StringConstraints

from orchestrator.capabilities.values import Private, Value, effect, query


def _stays_inside(key: str) -> str:
    if ".." in key or "//" in key:
        raise ValueError("an asset's key must not hold '..' or '//'")
    return key


AssetKey = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._()/+-]{0,1023}$"),
    AfterValidator(_stays_inside),
]


class Asset(Value):
    """A file by its key in the store; the key comes from the shop's own data, never from a customer."""

    key: AssetKey

    @property
    def file_name(self) -> str:
        """The name that the customer's browser saves it under."""
        return self.key.rpartition("/")[2]


class Link(Value):
    """A time-limited link. Whoever has the URL has the file, so it is private."""

    asset: Asset
    url: Private[str]
    expires_at: datetime
    kind: Literal["signed", "temporary", "shared"] = "signed"
    """``signed`` by us, for this customer; ``temporary``, issued by the system for a time that it sets itself;
    ``shared``, the same for everybody."""


class FileLinks(Protocol):
    """The system that holds the files and issues links to them."""

    @query
    def exists(self, asset: Asset) -> bool:
        """Check that the file is there."""
        ...

    @effect
    def link_to(self, asset: Asset, *, valid_for: timedelta) -> Link:
        """Issue a fresh download link.

        Args:
            asset: The file.
            valid_for: How long the link should work; a system may cap it, and says so in ``expires_at``.

        Raises:
            NotFound: The system knows for certain that the file does not exist.
        """
        ...
