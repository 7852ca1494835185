"""A Gmail account on this computer, and connections to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.sandbox.gmail import Consents, GmailServer
from orchestrator_connectors.gmail import GmailAccount, GmailSettings
from orchestrator_connectors.gmail.settings import SCOPES

SHOP, ANN = "support@shop.example", "ann@example.com"
UNKNOWN = "nobody@example.com"


def settings(url: str, token_file: Path, **changes: Any) -> GmailSettings:
    consents = Consents()
    app = {"client_id": consents.client_id, "client_secret": consents.client_secret, "token_file": token_file}
    usual = {
        "address": f"The Shop <{SHOP}>",
        "app": app,
        "endpoint_url": url,
        "auth_url": f"{url}/o/oauth2/v2/auth",
        "token_url": f"{url}/token",
        "timeout_seconds": 10,
        "visibility_delay_seconds": 0,
    }
    return GmailSettings.model_validate(usual | changes)


def granted(server: GmailServer, token_file: Path, *scopes: str) -> str:
    """Let somebody have granted access before; the access token has ended since. Return the refresh token."""
    return server.consents.grant_into(token_file, *(scopes or SCOPES))


def account(server: GmailServer, token_file: Path, **changes: Any) -> GmailAccount:
    """Connect to a server; access was granted before, unless the test already did that itself."""
    if not token_file.exists():
        granted(server, token_file)
    return GmailAccount(settings(server.url, token_file, **changes))
