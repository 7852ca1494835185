"""A stand-in for the system that holds the files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import ClassVar
from urllib.parse import quote

from orchestrator.capabilities import Asset, Link
from orchestrator.errors import NotFound, Rejected
from orchestrator.plugins import DoubtClass, Settlement
from orchestrator.testing.fault_script import Scripted


def _now() -> datetime:
    return datetime.now(UTC)


class FakeFiles(Scripted):
    """Files by their assets, and links that open until they end.

    Args:
        assets: The files that are there.
        longest: A link is valid no longer than this.
        now: What the time is.
    """

    settlements: ClassVar = {"link_to": Settlement(doubt=DoubtClass.PURE)}

    def __init__(
        self, *assets: Asset, longest: timedelta = timedelta(days=7), now: Callable[[], datetime] = _now
    ) -> None:
        super().__init__()
        self.contents = {asset: f"the content of {asset.key}".encode() for asset in assets}
        self.links: list[Link] = []
        self._longest = longest
        self._now = now

    def exists(self, asset: Asset) -> bool:
        """See whether the file is there."""
        with self._call("exists", asset=asset):
            return asset in self.contents

    def link_to(self, asset: Asset, *, valid_for: timedelta) -> Link:
        """Issue a link of its own for each call."""
        with self._call("link_to", asset=asset, valid_for=valid_for):
            if valid_for <= timedelta(0):
                raise Rejected("a link must be valid for some time")
            if asset not in self.contents:
                raise NotFound("there is no such file")
            url = f"https://files.test/{quote(asset.key)}?link={len(self.links) + 1}"
            link = Link(asset=asset, url=url, expires_at=self._now() + min(valid_for, self._longest))
            self.links.append(link)
            return link

    def download(self, url: str) -> bytes | None:
        """Open a link as a customer does; None if it does not open, or no longer."""
        opens = [link.asset for link in self.links if link.url == url and self._now() < link.expires_at]
        return self.contents.get(opens[0]) if opens else None

    def check(self) -> str:
        """Count the files."""
        return f"a fake with {len(self.contents)} files"
