"""Product files from a directory of this computer, or of the web server that serves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from pydantic import BaseModel

from orchestrator.capabilities import Asset, FileLinks, Link
from orchestrator.errors import NotFound, Rejected, Unavailable
from orchestrator.plugins import Connector, DoubtClass, RegisterConnector, Settlement, hookimpl


class AcmeSettings(BaseModel, frozen=True, extra="forbid"):
    """Where the files lie."""

    directory: Path
    base_url: str | None = None
    """The web server's URL of the directory; without it, links are file:// ones."""


class AcmeFiles:
    """A directory of product files."""

    def __init__(self, settings: AcmeSettings) -> None:
        self.settlements = {"link_to": Settlement(doubt=DoubtClass.PURE)}
        self._directory = settings.directory.absolute()
        self._base_url = (settings.base_url or self._directory.as_uri()).rstrip("/")

    def exists(self, asset: Asset) -> bool:
        """See whether the file is there."""
        return (self._directory / asset.key).is_file()

    def link_to(self, asset: Asset, *, valid_for: timedelta) -> Link:
        """Name the file's URL; it goes on working for as long as the file is there."""
        if valid_for <= timedelta(0):
            raise Rejected("a link must be valid for some time")
        if not self.exists(asset):
            raise NotFound(f"there is no file {asset.key} in the directory: put it there, or correct the order")
        return Link(asset=asset, url=f"{self._base_url}/{quote(asset.key)}", expires_at=datetime.now(UTC) + valid_for)

    def check(self) -> str:
        """See the directory."""
        if not self._directory.is_dir():
            raise Unavailable(f"{self._directory} is no directory: create it, or correct directory")
        return f"{self._directory} holds {sum(1 for file in self._directory.rglob('*') if file.is_file())} files"


@hookimpl
def register_connectors(register: RegisterConnector) -> None:
    """Offer the connector."""
    register(Connector(name="acme-files", provides=(FileLinks,), settings=AcmeSettings, build=AcmeFiles))
