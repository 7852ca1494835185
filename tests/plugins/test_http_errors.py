from __future__ import annotations

import inspect
import itertools
import traceback

import httpx
import pytest

from orchestrator.errors import AccessDenied, ConnectorError, NotFound, RateLimited, Rejected, Unavailable
from orchestrator.toolkit.http import failure, refusal

NEVER_SENT = "ConnectError ConnectTimeout PoolTimeout"
UNKNOWN = """
CloseError DecodingError HTTPError NetworkError ProtocolError ProxyError ReadError ReadTimeout RemoteProtocolError
RequestError TimeoutException TooManyRedirects TransportError WriteError WriteTimeout
"""
SET_UP = "InvalidURL LocalProtocolError UnsupportedProtocol"
NEVER_RAISED = "CookieConflict HTTPStatusError RequestNotRead ResponseNotRead StreamClosed StreamConsumed StreamError"
"""Of things that we do not do: cookies, raise_for_status, streams."""

FOUND = {name: kind for name, kind in vars(httpx).items() if inspect.isclass(kind) and issubclass(kind, Exception)}


def test_no_exception_of_httpx_is_forgotten() -> None:
    mapped = f"{NEVER_SENT} {UNKNOWN} {SET_UP} {NEVER_RAISED}".split()
    assert set(FOUND) == set(mapped)


@pytest.mark.parametrize("name", f"{NEVER_SENT} {UNKNOWN} {SET_UP}".split())
@pytest.mark.parametrize("writes", [False, True])
def test_every_exception_of_httpx_is_told_by_what_happens_next(name: str, *, writes: bool) -> None:
    kind = FOUND[name]
    told = failure(kind.__new__(kind), "Acme", writes=writes)
    assert type(told) is (AccessDenied if name in SET_UP.split() else Unavailable)
    assert told.no_effect is (not writes or name not in UNKNOWN.split())
    assert name in str(told)


def kind_of(status: int, *, about_one: bool) -> type[ConnectorError]:
    if status == 429:
        return RateLimited
    if status in (401, 402, 403) or status < 400:
        return AccessDenied
    if status in (404, 410):
        return NotFound if about_one else AccessDenied
    if status == 501 or (status < 500 and status != 408):
        return Rejected
    return Unavailable


def test_every_status_is_told_by_what_happens_next() -> None:
    for status, writes, about_one in itertools.product(range(300, 600), (False, True), (False, True)):
        told = refusal(httpx.Response(status, text="s3cret"), "Acme", writes=writes, about_one=about_one)
        assert type(told) is kind_of(status, about_one=about_one), status
        assert told.no_effect is not (writes and (status < 400 or status >= 500 or status == 408)), status
        assert str(status) in str(told)
        assert "s3cret" not in "".join(traceback.format_exception(told))
