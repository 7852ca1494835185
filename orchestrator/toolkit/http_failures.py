"""What goes wrong over HTTP, by what happens next.

- refused with 401, 402 or 403, or by a certificate: ``AccessDenied``;
- 429, or a 503 that names a time: ``RateLimited``, with the wait that was asked for (RFC 9110 10.2.3);
- no connection, a time-out, a 408 or 5xx: ``Unavailable``;
- a redirect: ``AccessDenied``, because ``base_url`` is wrong;
- 404 or 410 about one thing: ``NotFound``; about a whole address: ``AccessDenied``, because ``base_url`` is wrong;
- any other refusal: ``Rejected``.

If the call changes something and may have arrived, a lost connection, a time-out, a redirect, 408 and every 5xx are
*ambiguous*: whoever answers so may have acted, or stand before somebody who has (RFC 9110 15.4 and 15.6 promise
nothing). If the vendor documents for one operation that it was not done, the connector names the status:
``change(..., not_done={503})``, with the page of the documentation beside it. 429 says so by itself (RFC 6585 4).
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

from orchestrator.errors import AccessDenied, ConnectorError, NotFound, RateLimited, Rejected, Unavailable

_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""The request has not left us. A proxy's refusal is not among them: who knows what it has passed on."""
_SET_UP = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL)
_KEEP_OUT = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN})
_MISSING = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_LONGEST_WAIT = timedelta(days=7)


def refusal(
    answer: httpx.Response, place: str, *, writes: bool, about_one: bool = False, setting: str = "base_url"
) -> ConnectorError:
    """Translate an answer that is no success.

    Args:
        answer: The answer; its body is not repeated, because it may hold anything.
        place: Which system refused.
        writes: Whether the request changes something, and no documentation says that this status means otherwise.
        about_one: Whether it names one thing, so that "not found" is about that thing.
        setting: How the connection's section names the address.
    """
    status, refused = answer.status_code, f"{place}: refused with status {answer.status_code}"
    wait, undone = retry_after(answer), not (writes and _leaves_a_doubt(status))
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status == HTTPStatus.SERVICE_UNAVAILABLE and wait is not None):
        return RateLimited(f"{refused}: it asks to slow down", retry_after=wait, no_effect=undone)
    if status == HTTPStatus.REQUEST_TIMEOUT or _failed(status):
        return Unavailable(f"{refused}: it failed on its side", no_effect=undone)
    if status in _KEEP_OUT:
        return AccessDenied(f"{refused}: check the credential, and what it may do there")
    if status in _MISSING and about_one:
        return NotFound(f"{refused}: it is not there (any more)")
    if status < HTTPStatus.BAD_REQUEST or status in _MISSING:
        return AccessDenied(f"{refused}: check {setting}", no_effect=undone)
    return Rejected(refused, no_effect=undone)


def failure(error: Exception, place: str, *, writes: bool, setting: str = "base_url") -> ConnectorError:
    """Translate an exception of httpx: the network's pass by themselves, others come from a wrong set-up."""
    what = type(error).__name__
    if isinstance(error, _SET_UP):
        return AccessDenied(f"{place}: cannot be asked ({what}): check {setting} and the credential")
    if _is_distrust(error):
        return AccessDenied(f"{place}: its certificate is not trusted: check {setting} and ca_file")
    no_effect = not writes or isinstance(error, _NEVER_SENT)
    return Unavailable(f"{place}: cannot be reached ({what}): check {setting} and the network", no_effect=no_effect)


def retry_after(answer: httpx.Response) -> timedelta | None:
    """Read ``Retry-After``: seconds or a date (RFC 9110 10.2.3); None if it is missing or cannot be read."""
    written = answer.headers.get("retry-after", "").strip()
    if written.isascii() and written.isdecimal():
        return min(timedelta(seconds=int(written[:9])), _LONGEST_WAIT)
    try:
        wait = parsedate_to_datetime(written) - datetime.now(UTC)
    except (ValueError, TypeError):
        return None
    return min(max(wait, timedelta(0)), _LONGEST_WAIT)


def _leaves_a_doubt(status: int) -> bool:
    """Tell whether a system that answers so may have acted."""
    says_no = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return not says_no or status == HTTPStatus.REQUEST_TIMEOUT


def _failed(status: int) -> bool:
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED


def _is_distrust(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
