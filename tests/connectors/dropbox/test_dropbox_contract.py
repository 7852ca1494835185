"""Dropbox by the contracts of the kit: links, faults and hygiene."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.capabilities import Asset
from orchestrator.errors import Unavailable
from orchestrator.plugins import DoubtClass, Settlement
from orchestrator.sandbox.dropbox_server import APP_SECRET, DropboxServer
from orchestrator.testing.contracts.faults import ConnectorHygieneContract, FaultsContract
from orchestrator.testing.contracts.files import FileLinksContract
from orchestrator_connectors.dropbox import TEMPORARY, DropboxFiles
from tests.support.dropbox_account import (
    CONTENT,
    DRESS,
    HOUR,
    MISSING,
    PATH,
    THREE_DAYS,
    connect,
    download,
)


@pytest.fixture
def server() -> Iterator[DropboxServer]:
    with DropboxServer({PATH: CONTENT}) as server:
        yield server


@dataclass(frozen=True)
class Store:
    present: Asset = DRESS
    missing: Asset = MISSING
    content: bytes = CONTENT

    def download(self, url: str) -> bytes | None:
        return download(url)


class Contract(FileLinksContract):
    @pytest.fixture
    def store(self) -> Store:
        return Store()


class TestTemporaryLinks(Contract):
    connector = "dropbox"

    @pytest.fixture
    def files(self, server: DropboxServer, tmp_path: Path) -> DropboxFiles:
        return connect(server, tmp_path, known_asset=DRESS.key)

    def test_a_link_lives_four_hours_whatever_is_asked_for(self, files: DropboxFiles) -> None:
        link = files.link_to(DRESS, valid_for=THREE_DAYS)
        left = link.expires_at - datetime.now(UTC)
        assert TEMPORARY - timedelta(minutes=1) < left <= TEMPORARY
        assert link.kind == "temporary"


class TestSharedLinks(Contract):
    connector = "dropbox"

    @pytest.fixture
    def files(self, server: DropboxServer, tmp_path: Path) -> DropboxFiles:
        return connect(server, tmp_path, links="shared")

    def test_a_link_lives_as_long_as_is_asked_for(self, files: DropboxFiles, server: DropboxServer) -> None:
        link = files.link_to(DRESS, valid_for=THREE_DAYS)
        assert link.kind == "shared"
        assert server.shared[PATH] == link.expires_at

    def test_a_link_is_used_again_and_lives_on_for_the_last_who_got_it(
        self, files: DropboxFiles, server: DropboxServer
    ) -> None:
        long = files.link_to(DRESS, valid_for=THREE_DAYS)
        short = files.link_to(DRESS, valid_for=HOUR)
        assert short.url == long.url
        assert server.shared[PATH] == long.expires_at
        longest = files.link_to(DRESS, valid_for=timedelta(days=9))
        assert (longest.url, server.shared[PATH]) == (long.url, longest.expires_at)

    def test_a_link_without_an_end_is_left_as_it_is(self, files: DropboxFiles, server: DropboxServer) -> None:
        server.shared[PATH] = None
        link = files.link_to(DRESS, valid_for=HOUR)
        assert server.shared[PATH] is None
        assert download(link.url) == CONTENT

    @pytest.mark.parametrize("exists", [False, True])
    def test_a_plan_whose_links_do_not_end_gives_temporary_ones(
        self, files: DropboxFiles, server: DropboxServer, exists: bool
    ) -> None:
        server.links_may_expire = False
        if exists:
            server.shared[PATH] = datetime.now(UTC) + timedelta(seconds=30)
        link = files.link_to(DRESS, valid_for=THREE_DAYS)
        assert link.kind == "temporary"
        assert download(link.url) == CONTENT

    def test_a_link_that_was_made_and_not_heard_of_is_found_again(
        self, files: DropboxFiles, server: DropboxServer
    ) -> None:
        server.drop()
        with pytest.raises(Unavailable) as caught:
            files.link_to(DRESS, valid_for=HOUR)
        assert caught.value.no_effect is False
        assert files.settlements["link_to"].doubt is DoubtClass.NATURAL
        assert download(files.link_to(DRESS, valid_for=HOUR).url) == CONTENT
        assert len(server.shared) == 1


class TestDropboxFaults(FaultsContract):
    connector = "dropbox"

    @pytest.fixture
    def faults(self, server: DropboxServer) -> DropboxServer:
        return server

    @pytest.fixture
    def files(self, server: DropboxServer, tmp_path: Path) -> DropboxFiles:
        return connect(server, tmp_path, timeout_seconds=3)

    @pytest.fixture
    def ask(self, files: DropboxFiles) -> Callable[[], object]:
        return lambda: files.exists(DRESS)

    @pytest.fixture
    def settlement(self, files: DropboxFiles) -> Settlement:
        return files.settlements["link_to"]

    @pytest.fixture
    def change(self, files: DropboxFiles) -> Callable[[], object]:
        return lambda: files.link_to(DRESS, valid_for=HOUR)


class TestDropboxHygiene(ConnectorHygieneContract):
    connector = "dropbox"

    @pytest.fixture
    def build(self, server: DropboxServer, tmp_path: Path) -> Callable[[], DropboxFiles]:
        return lambda: connect(server, tmp_path)

    @pytest.fixture
    def secret(self) -> str:
        return APP_SECRET

    @pytest.fixture
    def unreachable(self, tmp_path: Path) -> DropboxFiles:
        with DropboxServer({}) as server:
            return connect(server, tmp_path)

    @pytest.fixture
    def wrong_credential(self, server: DropboxServer, tmp_path: Path) -> DropboxFiles:
        files = connect(server, tmp_path)
        server.access_tokens.clear()
        return files
