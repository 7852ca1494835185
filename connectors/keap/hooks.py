"""REST hooks: who is told what. They exist in version 1 of the interface alone, and nothing that they send is signed.

Source: developer.keap.com/rest-hook-documentation. Keap sends a hook four times at most; then, or after a 410, the
hook is Inactive until it is verified again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote

from pydantic import AwareDatetime, BaseModel, Field, RootModel, ValidationError

from orchestrator.errors import Rejected
from orchestrator.plugins.subscriptions import Change, Subscription
from orchestrator_connectors.keap.api import Page, Session

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


class _Thing(BaseModel, hide_input_in_errors=True, coerce_numbers_to_str=True):
    id: str = Field(pattern="^[0-9]{1,19}$")
    create_time: AwareDatetime | None = None
    update_time: AwareDatetime | None = None
    creation_time: AwareDatetime | None = None
    modification_time: AwareDatetime | None = None


class _Things(Page):
    contacts: list[_Thing] | None = None
    orders: list[_Thing] | None = None


class _Told(BaseModel, hide_input_in_errors=True, coerce_numbers_to_str=True):
    id: str
    timestamp: AwareDatetime


class _Hint(BaseModel, hide_input_in_errors=True):
    event_key: str
    object_keys: list[_Told]


class _Poll(NamedTuple):
    """How Keap is asked for what an event tells of: which list, which filter, and whose time it is."""

    list: str
    since: str
    moment: str


_POLLS: Mapping[str, _Poll] = MappingProxyType(
    {
        "contact.add": _Poll("contacts", "start_update_time", "create_time"),
        "contact.edit": _Poll("contacts", "start_update_time", "update_time"),
        "order.add": _Poll("orders", "created_since_time", "creation_time"),
        "order.edit": _Poll("orders", "modified_since_time", "modification_time"),
    }
)


class _HookList(RootModel[list[_Hook]]):
    pass


class _Nothing(RootModel[object]):
    pass


def hooks_of(session: Session) -> list[Subscription]:
    """List the account's hooks."""
    return [hook.subscription() for hook in session.get(_PATH, _HookList).root]


def subscribe(session: Session, url: str, event: str) -> Subscription:
    """Subscribe to an event, unless that address has it already; Keap calls the address at once to verify it."""
    known = [hook for hook in hooks_of(session) if (hook.url, hook.event) == (url, event)]
    if not known:
        return session.post(_PATH, {"eventKey": event, "hookUrl": url}, _Hook).subscription()
    return known[0] if known[0].works else verify(session, known[0].key)


def verify(session: Session, key: str) -> Subscription:
    """Let Keap call the hook's address once more, and read what became of it."""
    path = f"{_PATH}/{quote(key, safe='')}"
    session.post(f"{path}/verify", {}, _Nothing, about_one=True)
    return session.get(path, _Hook, about_one=True).subscription()


def changes(session: Session, event: str, since: datetime) -> Iterator[Change]:
    """Ask what an event should have told of since then."""
    poll = _POLLS.get(event)
    if poll is None:
        raise Rejected(f"{session.place}: cannot be asked what {event} tells of; it can for {', '.join(_POLLS)}")
    wanted = {"filter": f"{poll.since}=={since.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.000Z"}
    if poll.list == "contacts":
        wanted["fields"] = "id,create_time,update_time"
    for page in session.pages(f"/rest/v2/{poll.list}", _Things, wanted):
        for thing in getattr(page, poll.list) or ():
            at = getattr(thing, poll.moment)
            if at is not None and at >= since:
                yield _change(event, thing.id, at)


def _change(event: str, thing: str, at: datetime) -> Change:
    """Write a change down as Keap tells of it."""
    key = {"id": int(thing), "apiUrl": "", "timestamp": at.isoformat()}
    hint = {"event_key": event, "object_type": event.partition(".")[0], "object_keys": [key]}
    return Change(key=f"{event}/{thing}", at=at, payload=json.dumps(hint).encode())


def told(payload: object) -> dict[str, datetime]:
    """Read which changes a hook told of; nothing of what is no hook of Keap's."""
    try:
        hint = _Hint.model_validate(payload)
    except ValidationError:
        return {}
    return {f"{hint.event_key}/{each.id}": each.timestamp for each in hint.object_keys}
