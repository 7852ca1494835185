"""A Keap account on a free port of this machine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from orchestrator.sandbox.keap.crm import Crm, Refused
from orchestrator.sandbox.keap.gate import Gate
from orchestrator.sandbox.keap.hooks import HookService
from orchestrator.testing.http_server import Answer, FaultyServer, Request


class KeapServer(FaultyServer):
    """A Keap account that keeps what it is told, while the context lasts.

    Args:
        clock: Tells the account's time.
    """

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__()
        self.gate = Gate(clock=clock)
        self.hooks = HookService(clock=clock)
        self.crm = Crm(clock=clock, emit=self.hooks.happened)

    @property
    def base_url(self) -> str:
        """What the setting ``base_url`` of a connection must be."""
        return f"{self.url}/crm"

    @property
    def token_url(self) -> str:
        """What the setting ``token_url`` must be."""
        return f"{self.url}/token"

    @property
    def authorize_url(self) -> str:
        """What the setting ``authorize_url`` must be."""
        return f"{self.url}/app/oauth/authorize"

    def revoke(self) -> None:
        """Let the key end."""
        self.gate.api_key = "another"

    def usual_headers(self, status: int) -> Mapping[str, str]:
        """Say how much is left."""
        return self.gate.told(status)

    def respond(self, request: Request) -> Answer:
        """Deal with one call."""
        try:
            return self._answer(request)
        except Refused as refused:
            return Answer(refused.status, _error(request.path, refused))

    def _answer(self, request: Request) -> Answer:
        query = _query(request)
        if request.path == "/app/oauth/authorize":
            back = {"code": self.gate.grant(query), "state": query.get("state", "")}
            return Answer(302, headers={"Location": f"{query['redirect_uri']}?{urlencode(back)}"})
        with self.lock:
            if request.path == "/token":
                return Answer(200, self.gate.token(request.headers, request.form))
            self.gate.admit(request.headers)
        return self._route(request)

    def _route(self, request: Request) -> Answer:
        for method, pattern, act in _ROUTES:
            if method == request.method and (found := re.fullmatch(pattern, request.path)):
                if "/hooks" in request.path:  # may call back while it is dealt with
                    return act(self, request, *found.groups())
                with self.lock:
                    return act(self, request, *found.groups())
        raise Refused(404, "there is no such resource")


_Act = Callable[..., Answer]
_V1, _V2, _ID = "/crm/rest/v1", "/crm/rest/v2", "([^/:]+)"
_ROUTES: tuple[tuple[str, str, _Act], ...] = (
    ("GET", f"{_V2}/contacts", lambda keap, call: Answer(200, keap.crm.list_contacts(_query(call)))),
    (
        "GET",
        f"{_V2}/contacts/{_ID}/tags",
        lambda keap, call, of: Answer(200, keap.crm.list_contact_tags(of, _query(call))),
    ),
    (
        "GET",
        f"{_V2}/contacts/{_ID}/notes",
        lambda keap, call, of: Answer(200, keap.crm.list_notes(of, _query(call))),
    ),
    (
        "POST",
        f"{_V2}/contacts/{_ID}/notes",
        lambda keap, call, of: Answer(201, keap.crm.create_note(of, _body(call))),
    ),
    ("GET", f"{_V2}/orders", lambda keap, call: Answer(200, keap.crm.list_orders(_query(call)))),
    ("GET", f"{_V2}/orders/{_ID}", lambda keap, _call, of: Answer(200, keap.crm.get_order(of))),
    ("GET", f"{_V2}/tags", lambda keap, call: Answer(200, keap.crm.list_tags(_query(call)))),
    ("POST", f"{_V2}/tags", lambda keap, call: Answer(201, keap.crm.create_tag(_body(call)))),
    (
        "POST",
        f"{_V2}/tags/{_ID}/contacts:applyTags",
        lambda keap, call, of: Answer(200, keap.crm.apply_tag(of, _body(call))),
    ),
    ("GET", f"{_V1}/hooks", lambda keap, _call: Answer(200, keap.hooks.listed())),
    ("POST", f"{_V1}/hooks", lambda keap, call: Answer(201, keap.hooks.create(_body(call)))),
    ("GET", f"{_V1}/hooks/{_ID}", lambda keap, _call, of: Answer(200, keap.hooks.one(of))),
    ("POST", f"{_V1}/hooks/{_ID}/verify", lambda keap, _call, of: Answer(200, keap.hooks.verify(of))),
)


def _error(path: str, refused: Refused) -> dict[str, Any]:
    if path == "/token":  # RFC 6749 5.2
        return {"error": refused.message}
    return {"code": refused.status, "message": refused.message, "status": "refused", "details": []}


def _query(request: Request) -> dict[str, str]:
    """Read a query; what comes several times is a list, as one with commas is."""
    return {name: ",".join(values) for name, values in request.query.items()}


def _body(request: Request) -> dict[str, Any]:
    try:
        read = json.loads(request.body)
    except ValueError:
        raise Refused(400, "the body is no JSON") from None
    return read if isinstance(read, dict) else {}
