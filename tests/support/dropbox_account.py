"""A Dropbox on this machine with one product file, and connections to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from orchestrator.capabilities import Asset
from orchestrator.sandbox.dropbox_server import APP_KEY, APP_SECRET, DropboxServer
from orchestrator.toolkit.tokens import Tokens, TokenStore
from orchestrator_connectors.dropbox import DropboxFiles, DropboxSettings

HOUR = timedelta(hours=1)
THREE_DAYS = timedelta(days=3)
DRESS = Asset(key="patterns/linen dress (2025).zip")
PATH = f"/Products/{DRESS.key}"
MISSING = Asset(key="patterns/nowhere.zip")
CONTENT = b"PK" * 1000
SLOW_DOWN = {
    "error_summary": "too_many_requests/",
    "error": {"reason": {".tag": "too_many_requests"}, "retry_after": 7},
}


def connect(server: DropboxServer, folder: Path, /, **changes: Any) -> DropboxFiles:
    store = TokenStore(path=folder / "tokens" / "dropbox")
    if not store.path.exists():
        access, refresh = server.grant()
        ends = datetime.now(UTC) + timedelta(hours=4)
        store.keep(Tokens(access_token=access, refresh_token=refresh, expires_at=ends))
    given = {"app_key": APP_KEY, "app_secret": APP_SECRET, "token_file": store.path, "folder": "/Products"}
    return DropboxFiles(DropboxSettings.model_validate({**given, "api_url": server.url, **changes}))


def download(url: str) -> bytes | None:
    try:
        with urlopen(url, timeout=10) as answer:
            content: bytes = answer.read()
            return content
    except HTTPError:
        return None
