"""The systems to begin with, all of them in this folder: a table of orders, files to sell, and mails that are not sent.

Each is a connector, as an installed one is. Once the real system is connected (see production.example.toml), bind its
connection in orchestrator.toml instead, and delete the class here.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ValidationError

from orchestrator.capabilities import (
    Asset,
    FileLinks,
    Link,
    Mailer,
    Notice,
    Notifier,
    OrderRecords,
    OutgoingMail,
    Purchase,
    Receipt,
)
from orchestrator.errors import NotFound, Rejected, Unavailable
from orchestrator.plugins import Connector, DoubtClass, RegisterConnector, Settlement, hookimpl


class Place(BaseModel, frozen=True, extra="forbid"):
    """Where a system lies; a relative path counts from the folder of orchestrator.toml."""

    path: Path


class OrderTable:
    """Orders, one a line, in a file that any spreadsheet writes (CSV)."""

    def __init__(self, settings: Place) -> None:
        self._path = settings.path

    def purchases_of(self, email: str) -> tuple[Purchase, ...]:
        """Look the customer up in the table."""
        found = [each for each in self._purchases() if each.email.casefold() == email.casefold()]
        return tuple(sorted(found, key=lambda each: each.bought_on, reverse=True))

    def check(self) -> str:
        """Read the table."""
        return f"{self._path.name} holds {len(self._purchases())} purchases"

    def _purchases(self) -> list[Purchase]:
        try:
            with self._path.open(newline="", encoding="utf-8") as table:
                rows = [{**row, "asset": {"key": row.get("asset")}} for row in csv.DictReader(table)]
            return [Purchase.model_validate(row) for row in rows]
        except OSError as exc:
            raise Unavailable(f"{self._path} cannot be read ({exc.strerror}): put it there, or correct path") from exc
        except ValidationError as exc:
            fields = sorted({str(error["loc"][0]) for error in exc.errors()})
            raise Unavailable(f"a line of {self._path} does not fit: correct {', '.join(fields)}") from None


class FileFolder:
    """The files that are sold, in a folder of this computer."""

    def __init__(self, settings: Place) -> None:
        self._path = settings.path.absolute()
        self.settlements = {"link_to": Settlement(doubt=DoubtClass.PURE)}

    def exists(self, asset: Asset) -> bool:
        """See whether the file is there."""
        return (self._path / asset.key).is_file()

    def link_to(self, asset: Asset, *, valid_for: timedelta) -> Link:
        """Name the file; it can be opened for as long as it is there."""
        if valid_for <= timedelta(0):
            raise Rejected("a link must be valid for some time")
        if not self.exists(asset):
            raise NotFound(f"there is no file {asset.key}: put it into {self._path}, or correct the order")
        return Link(asset=asset, url=(self._path / asset.key).as_uri(), expires_at=datetime.now(UTC) + valid_for)

    def check(self) -> str:
        """See the folder."""
        if not self._path.is_dir():
            raise Unavailable(f"{self._path} is no folder: create it, or correct path")
        return f"{self._path.name} holds {sum(each.is_file() for each in self._path.rglob('*'))} files"


class Outbox:
    """A folder into which mails and notices are written instead of being sent, each under the name of its effect."""

    def __init__(self, settings: Place) -> None:
        self._path = settings.path
        # A text is simply written again, into the same file.
        self.settlements = dict.fromkeys(("send", "notify"), Settlement(doubt=DoubtClass.NATURAL))

    def send(self, mail: OutgoingMail, *, effect_id: str | None = None) -> Receipt:
        """Write a mail."""
        return self._write(effect_id, f"To: {mail.to}\nSubject: {mail.subject}\n\n{mail.text}")

    def notify(self, notice: Notice, *, effect_id: str | None = None) -> Receipt:
        """Write a notice."""
        return self._write(effect_id, "\n".join([f"{notice.severity}: {notice.title}", *notice.lines, ""]))

    def check(self) -> str:
        """Count what was written."""
        return f"{self._path.name} holds {len(list(self._path.glob('*.txt')))} texts"

    def _write(self, effect_id: str | None, text: str) -> Receipt:
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            (self._path / f"{effect_id}.txt").write_text(text, encoding="utf-8")
        except OSError as exc:
            raise Unavailable(f"{self._path} cannot be written ({exc.strerror}): correct path") from exc
        return Receipt(reference=f"<{effect_id}@outbox>")


@hookimpl
def register_connectors(register: RegisterConnector) -> None:
    """Offer the connectors."""
    register(Connector(name="order-table", provides=(OrderRecords,), settings=Place, build=OrderTable))
    register(Connector(name="file-folder", provides=(FileLinks,), settings=Place, build=FileFolder))
    register(Connector(name="outbox", provides=(Mailer, Notifier), settings=Place, build=Outbox))
