"""One webhook call, from its first byte to its answer.

The checks come in the order of what they cost: size, a free slot, the body in time, the signature over
its raw bytes, the signed time. Only what is genuine is parsed, and nothing is answered with 202 before
it is stored.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import Any, cast

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from orchestrator.gateway.accepting import Arrival, Outcome
from orchestrator.gateway.concurrency import AllTaken, ConcurrencyLimit
from orchestrator.gateway.hooks import UNKNOWN, Hook, Hooks, key_of
from orchestrator.gateway.mapping import MISSING, Unfit, find, read_payload, request_from
from orchestrator.gateway.refusals import Reason, Refusals
from orchestrator.gateway.verification import Call, Verdict, verify
from orchestrator.gateway.writer import Writer
from orchestrator.metrics.measures import Measures
from orchestrator.record.record import Record
from orchestrator.settings import GatewaySettings, WebhookSettings

RETRY_AFTER_SECONDS = 5
ACCEPT_SECONDS = 25.0
"""So long a call waits to be stored; senders give up after 30 s and less."""
STRANGERS_BYTES = int(WebhookSettings.model_fields["max_bytes"].default)
"""The largest body at an address that leads nowhere."""
HOOK_SECRET = "X-Hook-Secret"  # noqa: S105 - the name of a header
"""Keap's REST hooks want this header back, as the proof that somebody listens (developer.infusionsoft.com)."""
LONGEST_ECHO = 200
_UNREAD = frozenset({Reason.TOO_LARGE, Reason.TOO_SLOW, Reason.BUSY})
"""Refusals of a call whose body was not read to its end."""
logger = logging.getLogger(__name__)


class Refused(Exception):
    """A call is refused.

    Args:
        status: The HTTP status.
        reason: Why, as the record counts it.
    """

    def __init__(self, status: int, reason: Reason) -> None:
        super().__init__()
        self.status = status
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Ingress:
    """Takes calls in.

    Args:
        hooks: Finds webhooks.
        record: Tells the time and hides what must not lie open.
        writer: Stores what is accepted.
        refusals: Counts what is not.
        slots: Bounds how many calls are dealt with at once.
        settings: Of the gateway.
        measures: Measures what is accepted and what is refused.
    """

    hooks: Hooks
    record: Record
    writer: Writer
    refusals: Refusals
    slots: ConcurrencyLimit
    settings: GatewaySettings
    measures: Measures

    async def receive(self, request: Request) -> Response:
        """Deal with one call; whatever it holds, it is answered."""
        began = perf_counter()
        hook = self.hooks.find(request.path_params["path"])
        name = hook.name if hook else UNKNOWN
        try:
            accepted = await self._receive(request, hook)
        except Refused as refused:
            answer = refused
        except ClientDisconnect:
            answer = Refused(408, Reason.TOO_SLOW)
        except Exception as exc:  # noqa: BLE001 - a stranger's bytes never bring the gateway down
            logger.error("A call could not be accepted: %s", type(exc).__name__)  # noqa: TRY400 - may hold the payload
            answer = Refused(503, Reason.FAILED)
        else:
            self.measures.accepted(name, perf_counter() - began)
            return accepted
        self.refusals.add(name, answer.reason)
        self.measures.refused(name, answer.reason)
        return _refusal(answer)

    async def _receive(self, request: Request, hook: Hook | None) -> Response:
        limit = hook.max_bytes if hook else STRANGERS_BYTES
        declared = request.headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared[:20]) > limit:
            raise Refused(413, Reason.TOO_LARGE)
        try:
            with self.slots.slot(hook.name if hook else UNKNOWN):
                call = _call(request, hook, await self._body(request, limit))
                now = self.record.clock()
                return await self._accept(self._genuine(hook, call, now), call, now)
        except AllTaken as exc:
            raise Refused(429 if exc.of_one else 503, Reason.BUSY) from None

    async def _body(self, request: Request, limit: int) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(self.settings.read_seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > limit:
                        raise Refused(413, Reason.TOO_LARGE)
        except TimeoutError:
            raise Refused(408, Reason.TOO_SLOW) from None
        return bytes(body)

    def _genuine(self, hook: Hook | None, call: Call, now: datetime) -> Hook:
        verdict = verify(hook.proof if hook else self.hooks.decoy, call, now.timestamp())
        if hook is None or verdict is not Verdict.GENUINE:
            raise Refused(401, Reason.STALE if verdict is Verdict.STALE else Reason.FORGED)
        return hook

    async def _accept(self, hook: Hook, call: Call, now: datetime) -> Response:
        payload, fitting, problem = MISSING, None, ""
        try:
            payload = read_payload(call.body)
            fitting = request_from(payload, hook.sources, hook.process.request)
        except Unfit as exc:
            problem = str(exc)
        if (challenge := _challenge(hook, payload)) is not None:
            return JSONResponse({"challenge": challenge})
        key = key_of(hook, call, payload, now, self.record.vault)
        arrival = Arrival(hook=hook, key=key, body=call.body, received_at=now, request=fitting, problem=problem)
        stored = await asyncio.wait_for(asyncio.wrap_future(self.writer.submit(arrival)), ACCEPT_SECONDS)
        if stored.outcome is Outcome.CONFLICT:
            raise Refused(409, Reason.CONFLICT)
        return _accepted(hook, call, stored.delivery)


def _call(request: Request, hook: Hook | None, body: bytes) -> Call:
    headers: dict[bytes, bytes] = {}
    for name, value in request.headers.raw:
        headers[name] = headers[name] + b", " + value if name in headers else value
    query = cast("bytes", request.scope["query_string"])
    url = (hook.url if hook else b"") + (b"?" + query if query else b"")
    return Call(method=request.method.encode(), url=url, headers=headers, body=body)


def _challenge(hook: Hook, payload: Any) -> str | None:
    """Return what Slack wants back when it gets to know an address (docs.slack.dev, "url_verification")."""
    if hook.proof.scheme != "slack" or find(payload, "/type") != "url_verification":
        return None
    challenge = find(payload, "/challenge")
    return challenge if isinstance(challenge, str) else None


def _accepted(hook: Hook, call: Call, delivery: str) -> Response:
    answer = JSONResponse({"delivery": delivery}, status_code=202)
    echo = call.header(HOOK_SECRET.lower().encode()).decode("latin-1")
    if hook.proof.scheme == "none" and echo and len(echo) <= LONGEST_ECHO and echo.isascii() and echo.isprintable():
        answer.headers[HOOK_SECRET] = echo
        answer.status_code = 200
    return answer


def _refusal(refused: Refused) -> Response:
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if refused.status in (429, 503) else {}
    if refused.reason in _UNREAD:
        headers["Connection"] = "close"  # otherwise the server would go on reading what nobody wants
    return JSONResponse({"error": str(refused.reason)}, status_code=refused.status, headers=headers)
