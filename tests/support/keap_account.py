"""What the tests of the Keap connector share: an account, and connections to it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from orchestrator.errors import ConnectorError
from orchestrator.sandbox.keap import ASSETS, KeapServer, fill
from orchestrator.sandbox.shop import ONE_PURCHASE
from orchestrator.testing.http_server import Fault
from orchestrator.toolkit.tokens import TokenStore, tokens_from
from orchestrator_connectors.keap import KeapAccount, KeapSettings

ANNA = ONE_PURCHASE


def account() -> KeapServer:
    """Make an account that holds the sandbox's customers and orders."""
    keap = KeapServer()
    fill(keap.crm)
    return keap


def settings_of(keap: KeapServer, **changes: object) -> KeapSettings:
    usual = {"base_url": keap.base_url, "known_email": ANNA, "assets": ASSETS, "note_user": "1"}
    key = {} if "client_id" in changes else {"api_key": keap.gate.api_key}
    return KeapSettings.model_validate(usual | key | changes)


def connect(keap: KeapServer, **changes: object) -> KeapAccount:
    """Connect with a key."""
    return KeapAccount(settings_of(keap, **changes))


def connect_app(keap: KeapServer, token_file: Path, *, authorized: bool = True, **changes: object) -> KeapAccount:
    """Connect with an app, which somebody has authorised."""
    app: dict[str, object] = {
        "client_id": keap.gate.client_id,
        "client_secret": keap.gate.client_secret,
        "token_file": token_file,
        "token_url": keap.token_url,
        "authorize_url": keap.authorize_url,
    }
    if authorized:
        store = TokenStore(path=token_file)
        store.keep(tokens_from(keap.gate.new_tokens(), now=store.clock()))
    return connect(keap, **(app | changes))


class Cards:
    """What lies in the account, past the connection."""

    known = ANNA

    def __init__(self, keap: KeapServer) -> None:
        self._crm = keap.crm
        (self._id,) = [each["id"] for each in self._crm.contacts.values() if has_address(each, ANNA)]
        self.drop_next_answer = lambda: keap.fail_next(Fault(acts=True), on="POST")

    def tags_of(self, email: str) -> Collection[str]:
        assert email == ANNA
        return [self._crm.tags[tag]["name"] for tag in self._crm.applied.get(self._id, ())]

    def notes_of(self, email: str) -> Collection[str]:
        assert email == ANNA
        return [note["text"] for note in self._crm.notes.values() if note["contact_id"] == self._id]


def has_address(contact: dict[str, Any], email: str) -> bool:
    return any(each["email"] == email for each in contact["email_addresses"])


def raised_by(call: Callable[[], object]) -> ConnectorError:
    """Return the error that a call raises, once it is known to give nothing away."""
    import traceback

    try:
        call()
    except ConnectorError as error:
        printed = "".join(traceback.format_exception(error))
        assert not [each for each in (ANNA, "sandbox-keap-key", "sandbox-app-secret", "s3cret") if each in printed]
        return error
    raise AssertionError("nothing was raised")
