"""REST hooks: who is told what. They exist in version 1 of the interface alone, and nothing that they send is signed.

Source: developer.keap.com/rest-hook-documentation. Keap sends a hook four times at most; then, or after a 410, the
hook is Inactive until it is verified again.
"""

from __future__ import annotations

from urllib.parse import quote

from pydantic import BaseModel, Field, RootModel

from connectors.keap.api import Desk
from orchestrator.plugins.subscriptions import Subscription

_VERIFIED = "verified"
_PATH = "/rest/v1/hooks"


class _Hook(BaseModel, hide_input_in_errors=True, coerce_numbers_to_str=True):
    key: str = Field(min_length=1)
    event: str = Field(alias="eventKey")
    url: str = Field(alias="hookUrl")
    status: str

    def subscription(self) -> Subscription:
        """Say it in the words of the host."""
        works = self.status.casefold() == _VERIFIED
        return Subscription(key=self.key, event=self.event, url=self.url, state=self.status.casefold(), works=works)


class _HookList(RootModel[list[_Hook]]):
    pass


class _Nothing(RootModel[object]):
    pass


def hooks_of(desk: Desk) -> list[Subscription]:
    """List the account's hooks."""
    return [hook.subscription() for hook in desk.get(_PATH, _HookList).root]


def subscribe(desk: Desk, url: str, event: str) -> Subscription:
    """Subscribe to an event, unless that address has it already; Keap calls the address at once to verify it."""
    known = [hook for hook in hooks_of(desk) if (hook.url, hook.event) == (url, event)]
    if not known:
        return desk.post(_PATH, {"eventKey": event, "hookUrl": url}, _Hook).subscription()
    return known[0] if known[0].works else verify(desk, known[0].key)


def verify(desk: Desk, key: str) -> Subscription:
    """Let Keap call the hook's address once more, and read what became of it."""
    path = f"{_PATH}/{quote(key, safe='')}"
    desk.post(f"{path}/verify", {}, _Nothing, about_one=True)
    return desk.get(path, _Hook, about_one=True).subscription()
