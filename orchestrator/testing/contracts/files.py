"""What every connector that issues links to files must do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest

from orchestrator.capabilities import Asset, FileLinks
from orchestrator.errors import NotFound, Rejected
from orchestrator.plugins import Connection, DoubtClass, Settlement, with_effect_id

HOUR = timedelta(hours=1)


class FileConnection(FileLinks, Connection, Protocol):
    """The connection under test."""

    @property
    def settlements(self) -> Mapping[str, Settlement]:
        """How doubts are settled."""
        ...


class FileStore(Protocol):
    """What the tests know of the store behind the connection."""

    @property
    def present(self) -> Asset:
        """A file that is there."""

    @property
    def content(self) -> bytes:
        """What that file holds."""

    @property
    def missing(self) -> Asset:
        """A file that is not there."""

    def download(self, url: str) -> bytes | None:
        """Open a link without any credential, as a customer does; None if it does not open."""


class FileLinksContract:
    """Give the fixtures ``files`` and ``store``."""

    @pytest.fixture
    def files(self) -> FileConnection:
        """The connection under test."""
        raise NotImplementedError("give the fixture files: the connection under test")

    @pytest.fixture
    def store(self) -> FileStore:
        """The store behind it."""
        raise NotImplementedError("give the fixture store: what is known of the store behind the connection")

    def test_a_file_that_is_there_exists(self, files: FileConnection, store: FileStore) -> None:
        assert files.exists(store.present) is True

    def test_a_file_that_is_missing_does_not_exist(self, files: FileConnection, store: FileStore) -> None:
        assert files.exists(store.missing) is False

    def test_a_link_opens_the_file_without_a_credential(self, files: FileConnection, store: FileStore) -> None:
        link = with_effect_id(files.link_to, "effect-1")(store.present, valid_for=HOUR)
        assert link.asset == store.present
        assert store.download(link.url) == store.content

    def test_a_missing_file_gives_no_link_that_opens(self, files: FileConnection, store: FileStore) -> None:
        try:
            link = files.link_to(store.missing, valid_for=HOUR)
        except NotFound:
            return
        assert store.download(link.url) is None

    @pytest.mark.parametrize("valid_for", [timedelta(minutes=1), HOUR, timedelta(days=3), timedelta(days=3650)])
    def test_a_link_never_claims_to_last_longer_than_asked(
        self, files: FileConnection, store: FileStore, valid_for: timedelta
    ) -> None:
        link = files.link_to(store.present, valid_for=valid_for)
        now = datetime.now(UTC)
        assert link.expires_at.utcoffset() is not None, "expires_at must say its time zone"
        assert now < link.expires_at <= now + valid_for
        assert store.download(link.url) == store.content

    @pytest.mark.parametrize("valid_for", [timedelta(0), timedelta(hours=-1)])
    def test_a_link_that_would_have_ended_already_is_rejected(
        self, files: FileConnection, store: FileStore, valid_for: timedelta
    ) -> None:
        with pytest.raises(Rejected):
            files.link_to(store.present, valid_for=valid_for)

    def test_a_link_may_be_asked_for_again(self, files: FileConnection, store: FileStore) -> None:
        links = [with_effect_id(files.link_to, "effect-1")(store.present, valid_for=HOUR) for _ in range(2)]
        assert [store.download(link.url) for link in links] == [store.content, store.content]
        assert files.settlements["link_to"].doubt in {DoubtClass.PURE, DoubtClass.NATURAL}

    def test_a_printed_link_does_not_show_its_address(self, files: FileConnection, store: FileStore) -> None:
        link = files.link_to(store.present, valid_for=HOUR)
        assert link.url not in repr(link)

    def test_a_check_says_in_one_line_what_it_saw(self, files: FileConnection) -> None:
        assert len(files.check().splitlines()) == 1
